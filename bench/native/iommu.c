/*
 * The tables below a container in C, for measuring against: a red-black tree of ranges, a radix table of page entries with pin counts, a flat
 * dirty bitmap. Own code after the textbook; usage: iommu COUNT  prints `<name> <ns per operation>`.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static uint64_t state = 88172645463325252ull;
static uint64_t rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static volatile uint64_t sink;

/* --- red-black tree of ranges --- */

struct range {
	struct range *child[2], *parent;
	uint64_t first, last, vaddr;
	uint32_t meta, red;
};

static struct range nil = { { &nil, &nil }, &nil, 0, 0, 0, 0, 0 };
static struct range *root = &nil;

static struct range *find(uint64_t key)
{
	struct range *n = root;
	while (n != &nil) {
		if (key < n->first)
			n = n->child[0];
		else if (key > n->last)
			n = n->child[1];
		else
			return n;
	}
	return NULL;
}

static void rotate(struct range *n, int d)
{
	struct range *c = n->child[!d];
	n->child[!d] = c->child[d];
	if (c->child[d] != &nil)
		c->child[d]->parent = n;
	c->parent = n->parent;
	if (n->parent == &nil)
		root = c;
	else
		n->parent->child[n == n->parent->child[1]] = c;
	c->child[d] = n;
	n->parent = c;
}

static int insert(uint64_t first, uint64_t last, uint64_t vaddr)
{
	struct range *p = &nil, **link = &root, *n;
	while (*link != &nil) {
		p = *link;
		if (last < p->first)
			link = &p->child[0];
		else if (first > p->last)
			link = &p->child[1];
		else
			return -17;
	}
	n = malloc(sizeof *n);
	*n = (struct range){ { &nil, &nil }, p, first, last, vaddr, 3, 1 };
	*link = n;
	while (n->parent->red) {
		struct range *g = n->parent->parent;
		int d = n->parent == g->child[1];
		struct range *uncle = g->child[!d];
		if (uncle->red) {
			n->parent->red = uncle->red = 0;
			g->red = 1;
			n = g;
			continue;
		}
		if (n == n->parent->child[!d]) {
			n = n->parent;
			rotate(n, d);
		}
		n->parent->red = 0;
		g->red = 1;
		rotate(g, !d);
	}
	root->red = 0;
	return 0;
}

static void transplant(struct range *a, struct range *b)
{
	if (a->parent == &nil)
		root = b;
	else
		a->parent->child[a == a->parent->child[1]] = b;
	b->parent = a->parent;
}

static void erase(struct range *z)
{
	struct range *y = z, *x;
	int red = y->red;
	if (z->child[0] == &nil || z->child[1] == &nil) {
		x = z->child[z->child[0] == &nil];
		transplant(z, x);
	} else {
		for (y = z->child[1]; y->child[0] != &nil; y = y->child[0])
			;
		red = y->red;
		x = y->child[1];
		if (y->parent == z) {
			x->parent = y;
		} else {
			transplant(y, x);
			y->child[1] = z->child[1];
			y->child[1]->parent = y;
		}
		transplant(z, y);
		y->child[0] = z->child[0];
		y->child[0]->parent = y;
		y->red = z->red;
	}
	free(z);
	while (!red && x != root && !x->red) {
		int d = x == x->parent->child[1];
		struct range *w = x->parent->child[!d];
		if (w->red) {
			w->red = 0;
			x->parent->red = 1;
			rotate(x->parent, d);
			w = x->parent->child[!d];
		}
		if (!w->child[0]->red && !w->child[1]->red) {
			w->red = 1;
			x = x->parent;
			continue;
		}
		if (!w->child[!d]->red) {
			w->child[d]->red = 0;
			w->red = 1;
			rotate(w, !d);
			w = x->parent->child[!d];
		}
		w->red = x->parent->red;
		x->parent->red = 0;
		w->child[!d]->red = 0;
		rotate(x->parent, d);
		break;
	}
	x->red = 0;
}

static struct range *from(uint64_t key)
{
	struct range *n = root, *best = NULL;
	while (n != &nil) {
		if (n->last < key) {
			n = n->child[1];
		} else {
			best = n;
			n = n->child[0];
		}
	}
	return best;
}

/* --- page entries: four levels of 512, 48 bits --- */

struct entry {
	uint64_t idaw;
	uint32_t frame, pins;
};

static void *top[512];

static struct entry *entry(uint64_t page, int make)
{
	void **node = top;
	for (int shift = 27; shift > 0; shift -= 9) {
		void **slot = &node[(page >> shift) & 511];
		if (!*slot) {
			if (!make)
				return NULL;
			*slot = calloc(512, shift == 9 ? sizeof(struct entry) : sizeof(void *));
		}
		node = *slot;
	}
	return (struct entry *)node + (page & 511);
}

static uint32_t pinned, locked;

__attribute__((noinline)) static void pin_run(uint64_t page, int n)
{
	while (n > 0) {
		struct entry *e = entry(page, 0);
		int k = 512 - (page & 511);
		uint32_t fresh = 0;
		if (k > n)
			k = n;
		for (int i = 0; i < k; i++) {
			if ((e[i].frame & 7) != 7)
				abort();
			fresh += e[i].pins++ == 0;
		}
		pinned += fresh;
		locked += fresh;
		page += k;
		n -= k;
	}
}

__attribute__((noinline)) static void unpin_run(uint64_t page, int n)
{
	while (n > 0) {
		struct entry *e = entry(page, 0);
		int k = 512 - (page & 511);
		uint32_t gone = 0;
		if (k > n)
			k = n;
		for (int i = 0; i < k; i++) {
			if (!e[i].pins)
				abort();
			gone += --e[i].pins == 0;
		}
		pinned -= gone;
		locked -= gone;
		page += k;
		n -= k;
	}
}

/* --- dirty bits --- */

__attribute__((noinline)) static int harvest(const uint64_t *bits, uint32_t words, uint64_t *out)
{
	uint64_t *o = out, start = ~0ull;
	for (uint32_t w = 0; w < words; w++) {
		uint64_t word = bits[w];
		uint32_t bit = 0;
		if (start == ~0ull && !word)
			continue;
		while (bit < 64) {
			uint64_t rest = word >> bit;
			if (start == ~0ull) {
				if (!rest)
					break;
				bit += __builtin_ctzll(rest);
				start = w * 64ull + bit;
			} else {
				uint32_t run = ~rest ? __builtin_ctzll(~rest) : 64;
				if (bit + run >= 64)
					break;
				bit += run;
				*o++ = start << 12;
				*o++ = (w * 64ull + bit - start) << 12;
				start = ~0ull;
			}
		}
	}
	if (start != ~0ull) {
		*o++ = start << 12;
		*o++ = (words * 64ull - start) << 12;
	}
	return (int)(o - out) / 2;
}

static int order_of(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

#define ROUNDS 9
static int rounds = ROUNDS;
#define MEASURE(name, unit, setup, code) do { \
	double times[ROUNDS]; \
	for (int round = 0; round < rounds; round++) { \
		setup; \
		double t = now(); \
		code; \
		times[round] = (now() - t) / (double)(unit); \
	} \
	qsort(times, rounds, sizeof *times, order_of); \
	printf("%s %.4f\n", name, times[rounds / 2]); \
} while (0)

int main(int argc, char **argv)
{
	uint32_t n = argc > 1 ? (uint32_t)atoi(argv[1]) : 65536;
	uint64_t *pages = malloc(n * sizeof *pages), *order = malloc(n * sizeof *order);
	uint64_t sum = 0;
	if (n > 100000)
		rounds = 3;
	for (uint32_t i = 0; i < n; i++)
		pages[i] = order[i] = 2ull * i + 0x10000;
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t k = rnd() % (i + 1);
		uint64_t t = pages[i];
		pages[i] = pages[k];
		pages[k] = t;
	}
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t k = rnd() % (i + 1);
		uint64_t t = order[i];
		order[i] = order[k];
		order[k] = t;
	}
#define FILL for (uint32_t i = 0; i < n; i++) insert(pages[i] << 12, (pages[i] << 12) + 4095, 0x7f0000000000ull)
#define CLEAR while (root != &nil) erase(root)
	MEASURE("map", n, CLEAR, FILL);
	MEASURE("find", n, , for (uint32_t i = 0; i < n; i++) sum += find(order[i] << 12)->vaddr);
	MEASURE("unmap", n, CLEAR; FILL, for (uint32_t i = 0; i < n; i++) erase(find(order[i] << 12)));
	MEASURE("unmap range", n, CLEAR; FILL, {
		struct range *r;
		while ((r = from(0x10000000ull)) != NULL)
			erase(r);
	});
	printf("bytes %zu\n", sizeof(struct range) + 16);

	for (uint32_t i = 0; i < n; i++)
		*entry(pages[i], 1) = (struct entry){ __builtin_bswap64(pages[i] << 12), (uint32_t)(i << 12) | 7, 0 };
	MEASURE("translate", n, , for (uint32_t i = 0; i < n; i++) sum += entry(order[i], 0)->frame);
	MEASURE("pin random", n, , {
		for (uint32_t i = 0; i < n; i++) {
			struct entry *e = entry(order[i], 0);
			if ((e->frame & 7) != 7)
				abort();
			if (e->pins++ == 0) {
				pinned++;
				locked++;
			}
		}
		for (uint32_t i = 0; i < n; i++) {
			struct entry *e = entry(order[i], 0);
			if (e->pins && --e->pins == 0) {
				pinned--;
				locked--;
			}
		}
	});
	for (uint64_t p = 0; p < 4096; p++)
		*entry((1ull << 30) + p, 1) = (struct entry){ 0, (uint32_t)(p << 12) | 7, 0 };
	MEASURE("pin contiguous", 4096 * 64, , for (int i = 0; i < 64; i++) {
		pin_run(1ull << 30, 4096);
		unpin_run(1ull << 30, 4096);
	});
	pin_run(1ull << 30, 4096);
	MEASURE("pin again", 4096 * 64, , for (int i = 0; i < 64; i++) {
		pin_run(1ull << 30, 4096);
		unpin_run(1ull << 30, 4096);
	});

	uint32_t words = 1 << 18; /* 64 GiB */
	uint64_t *bits = calloc(words, 8), *out = malloc(16ull << 20);
	MEASURE("dirty empty", 1, , sum += harvest(bits, words, out));
	for (uint32_t i = 0; i < words * 64 / 100; i++) {
		uint64_t p = rnd() % (words * 64ull);
		bits[p >> 6] |= 1ull << (p & 63);
	}
	int ranges = harvest(bits, words, out);
	MEASURE("dirty harvest", ranges, , sum += harvest(bits, words, out));
	sink = sum;
	return 0;
}
