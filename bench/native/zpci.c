/*
 * PCI stores in C: the same chunking as assembly/zpci/store.ts with memcpy for each piece.
 *
 * usage: zpci LENGTH IO   prints: store NS (per transfer), pieces N
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint32_t chunk(uint32_t io, uint32_t mem, uint32_t left)
{
	uint32_t room = 4096 - (io & 4095);
	uint32_t n = left < room ? left : room;

	if (n > 128)
		n = 128;
	if (((io | mem | n) & 7) == 0)
		return n;
	if (n > 8 - (io & 7))
		n = 8 - (io & 7);
	return 1u << (31 - __builtin_clz(n));
}

__attribute__((noinline)) static uint32_t store(uint8_t *bar, uint32_t io, const uint8_t *from, uint32_t left)
{
	uint32_t count = 0;

	while (left) {
		uint32_t n = chunk(io, (uint32_t)(uintptr_t)from, left);

		memcpy(bar + io, from, n);
		__asm__ volatile("" ::: "memory");
		from += n;
		io += n;
		left -= n;
		count++;
	}
	return count;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	uint32_t length = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 4096;
	uint32_t io = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) : 0;
	uint8_t *bar = aligned_alloc(4096, 1 << 20), *from = aligned_alloc(4096, 1 << 20);
	uint32_t runs = 1 + 200000000u / (length + 64), pieces = 0;
	double times[9];

	memset(bar, 0, 1 << 20);
	memset(from, 0x5a, 1 << 20);
	for (int round = 0; round < 9; round++) {
		double start = now();

		for (uint32_t i = 0; i < runs; i++)
			pieces = store(bar, io, from, length);
		times[round] = (now() - start) / runs;
	}
	qsort(times, 9, sizeof(times[0]), order);
	printf("store %f\npieces %u\n", times[4], pieces);
	return 0;
}
