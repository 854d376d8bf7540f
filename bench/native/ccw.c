/*
 * Channel-program translation in C: the twin of assembly/ccw and of the page table below it, for measuring what WebAssembly costs.
 * The same records, the same walks, the same rules (spec ccw section 5); native pointers where the core has linear addresses.
 *
 * usage: ccw FILE     lines: `orb WORD1 CPA`, `page IOVA`, `mem IOVA HEX`, all numbers in hex
 * prints: translate NS (per program: copy, translate, release), and for comparison pins N, words SUM (of all IDAWs; the pages lie from
 * 1 MiB on in the order of their lines)
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOINLINE __attribute__((noinline))
#define CHAIN_MAX 16
#define LEN_MAX 256
#define READ_SIZE 2048
#define CHAIN_GAP 64
#define OFFSET_MASK 0xff0f000000000000ull
#define NO_PAGE UINT64_MAX
enum { EFAULT_ = 14, EBUSY_ = 16, EINVAL_ = 22, ENOMEM_ = 12 };
enum { READ = 1, WRITE = 2, VALID = 4 };
enum { CD = 0x80, CC = 0x40, SKIP = 0x10, IDA = 0x04, NOOP = 3, TIC = 8 };

/* ---- page table: 64 entries a leaf, inner nodes of 1024 ---- */
struct pte {
	uint64_t idaw;  /* frame address, byte-swapped */
	uint32_t frame; /* linear address | flags */
	uint32_t pins;
};
struct iommu {
	void *root;
	uint32_t height;
	uint64_t leaf_index;
	struct pte *leaf;
	uint64_t pins;
	uint32_t pinned_pages, locked, mode, read_nth, forced;
};
static uint8_t *ram; /* linear addresses are offsets into it */

static inline struct pte *leaf_get(const struct iommu *io, uint64_t index)
{
	void *node = io->root;
	uint64_t shift = (uint64_t)io->height * 10;
	if (shift < 64 && index >> shift)
		return NULL;
	while (shift && node) {
		shift -= 10;
		node = ((void **)node)[(index >> shift) & 1023];
	}
	return node;
}

static inline struct pte *pte_find(const struct iommu *io, uint64_t page)
{
	struct pte *leaf = leaf_get(io, page >> 6);
	return leaf ? leaf + (page & 63) : NULL;
}

/* Loops over pages below 4 GiB: the root of a table of two levels, or NULL. */
static inline void *const *low_root(const struct iommu *io) { return io->height == 2 ? io->root : NULL; }

static inline struct pte *low_pte(void *const *root, uint32_t page)
{
	void **node = root[page >> 16];
	if (!node)
		return NULL;
	struct pte *leaf = node[page >> 6 & 1023];
	return leaf ? leaf + (page & 63) : NULL;
}

static inline struct pte *page_lookup(struct iommu *io, uint64_t iova)
{
	uint64_t index = iova >> 18;
	struct pte *leaf = io->leaf;
	if (io->leaf_index != index) {
		leaf = leaf_get(io, index);
		if (!leaf)
			return NULL;
		io->leaf_index = index;
		io->leaf = leaf;
	}
	struct pte *e = leaf + ((iova >> 12) & 63);
	return e->frame & VALID ? e : NULL;
}

static void table_add(struct iommu *io, uint64_t page, uint32_t linear)
{
	uint64_t index = page >> 6;
	if (!io->root)
		io->height = 2;
	while (index >> (io->height * 10)) {
		void **node = calloc(1024, sizeof(void *));
		node[0] = io->root;
		io->root = node;
		io->height++;
	}
	void **slot = &io->root;
	for (int shift = (int)io->height * 10; shift; ) {
		if (!*slot)
			*slot = calloc(1024, sizeof(void *));
		shift -= 10;
		slot = (void **)*slot + ((index >> shift) & 1023);
	}
	if (!*slot)
		*slot = aligned_alloc(64, 64 * sizeof(struct pte)), memset(*slot, 0, 64 * sizeof(struct pte));
	struct pte *e = (struct pte *)*slot + (page & 63);
	e->idaw = __builtin_bswap64(linear);
	e->frame = linear | READ | WRITE | VALID;
}

static inline uint8_t *window(struct iommu *io, uint64_t iova, uint32_t size)
{
	if ((iova & 4095) + size > 4096 || io->read_nth)
		return NULL;
	struct pte *e = page_lookup(io, iova);
	return e && e->frame & READ ? ram + ((e->frame & ~4095u) | (iova & 4095)) : NULL;
}

static NOINLINE int read_bytes(struct iommu *io, uint64_t iova, uint8_t *to, uint32_t size)
{
	while (size) {
		uint32_t n = 4096 - (iova & 4095);
		if (n > size)
			n = size;
		struct pte *e = page_lookup(io, iova);
		if (!e || !(e->frame & READ))
			return -EINVAL_;
		memcpy(to, ram + ((e->frame & ~4095u) | (iova & 4095)), n);
		to += n;
		iova += n;
		size -= n;
	}
	return 0;
}

static NOINLINE int pin_slowly(struct iommu *io, uint64_t page, struct pte **out)
{
	struct pte *e = pte_find(io, page);
	if (!e || (e->frame & (VALID | READ | WRITE)) != (VALID | READ | WRITE))
		return -EINVAL_;
	io->pins++;
	if (!e->pins++)
		io->pinned_pages++, io->locked++;
	*out = e;
	return 1;
}

static NOINLINE void unpin_slowly(struct iommu *io, uint64_t page, uint32_t count)
{
	struct pte *e = pte_find(io, page);
	if (!e || e->pins < count)
		return;
	io->pins -= count;
	if (!(e->pins -= count))
		io->pinned_pages--, io->locked--;
}

/* ---- the program ---- */
struct pin {
	uint64_t page;
	struct pte *entry;
	uint32_t count;
};
struct block {
	struct block *next;
	uint8_t *brk;
	struct pin *pins, *end;
};
struct chain {
	uint32_t iova, len;
	uint8_t *host;
	uint32_t translated;
};
struct cp {
	uint32_t state, chain_count, idaw_size, block_shift, word1, made, newly, forced;
	struct iommu *io;
	struct block *blocks;
	uint8_t *chain_brk, *chain_end, *chain_blocks, *arena;
	uint64_t word;
	struct chain chains[CHAIN_MAX];
	uint8_t area[READ_SIZE + CHAIN_GAP + 512] __attribute__((aligned(16)));
	uint8_t first[5200] __attribute__((aligned(16)));
};

static inline uint64_t get64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint32_t get32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline void put64(void *p, uint64_t v) { memcpy(p, &v, 8); }
static inline uint32_t ccw_cda(uint64_t w) { return __builtin_bswap32(w >> 32); }
static inline uint32_t ccw_count(uint64_t w) { return ((w >> 24) & 0xff) | ((w >> 8) & 0xff00); }
static inline bool is_chain(uint64_t w) { return w & ((CC | CD) << 8); }
static inline bool is_tic(uint64_t w) { return (w & 0xff) == TIC; }
/* Our addresses as 32 bits: the low half of a pointer, enough for what is measured. */
static inline uint64_t with_cda(uint64_t w, const void *cda, uint32_t flags)
{
	return (uint32_t)w | flags << 8 | (uint64_t)__builtin_bswap32((uint32_t)(uintptr_t)cda) << 32;
}
static inline bool in_chain(uint32_t a, uint32_t head, uint32_t len) { return head <= a && a <= head + ((len - 1) << 3); }

static inline uint64_t from_format0(uint64_t w)
{
	uint64_t address = (w << 32) & 0xffffff0000000000ull;
	if ((w & 15) == TIC)
		return TIC | address;
	return (w & 0xff) | ((w >> 24) & 0xff00) | ((w >> 32) & 0xffff0000) | address;
}

static inline bool moves_data(uint64_t w)
{
	uint32_t cmd = w & 0xff;
	if (!((uint32_t)w >> 16) || cmd == NOOP)
		return false;
	if (!(w & (SKIP << 8)))
		return true;
	return (cmd & 3) != 2 && (cmd & 15) != 12 && (cmd & 15) != 4;
}

static void block_init(struct cp *cp, void *at, size_t size)
{
	struct block *block = at;
	struct pin *end = (struct pin *)((uint8_t *)at + size - sizeof(struct pin));
	block->next = cp->blocks;
	block->brk = (uint8_t *)(block + 1);
	block->pins = block->end = end;
	end->page = NO_PAGE;
	end->entry = (struct pte *)end;
	cp->blocks = block;
}

static NOINLINE struct block *block_add(struct cp *cp)
{
	void *at = malloc(4096);
	if (!at)
		return NULL;
	block_init(cp, at, 4096);
	return cp->blocks;
}

static inline struct block *block_with_room(struct cp *cp, size_t size)
{
	return cp->blocks->brk + size <= (uint8_t *)cp->blocks->pins ? cp->blocks : block_add(cp);
}

static void chains_drop(struct cp *cp)
{
	for (uint8_t *b = cp->chain_blocks, *next; b; b = next) {
		next = *(uint8_t **)b;
		free(b);
	}
	cp->chain_blocks = NULL;
	cp->chain_count = 0;
	cp->chain_brk = cp->area;
	cp->chain_end = cp->area + sizeof cp->area;
}

static uint8_t *chain_room(struct cp *cp)
{
	if (cp->chain_brk + READ_SIZE + CHAIN_GAP <= cp->chain_end)
		return cp->chain_brk;
	uint8_t *block = malloc(4096);
	if (!block)
		return NULL;
	*(uint8_t **)block = cp->chain_blocks;
	cp->chain_blocks = block;
	cp->chain_brk = block + 8;
	cp->chain_end = block + 4096;
	return block + 8;
}

static struct chain *chain_find(struct cp *cp, uint32_t address)
{
	for (struct chain *c = cp->chains; c < cp->chains + cp->chain_count; c++)
		if (in_chain(address, c->iova, c->len))
			return c;
	return NULL;
}

static int chain_build(struct cp *cp, uint32_t address)
{
	uint8_t *host = chain_room(cp);
	if (!host)
		return -ENOMEM_;
	const uint8_t *from = window(cp->io, address, READ_SIZE);
	if (!from) {
		int result = read_bytes(cp->io, address, host, READ_SIZE);
		if (result < 0)
			return result;
		from = host;
	}
	bool format0 = !(cp->word1 & 0x00800000);
	uint32_t tics = 0, len = 0;
	for (;;) {
		uint64_t w = get64(from + len * 8);
		if (format0)
			w = from_format0(w);
		put64(host + len * 8, w);
		len++;
		if (is_tic(w)) {
			tics++;
			if (!is_chain(w) && !in_chain(ccw_cda(w), address, len))
				break;
		} else if (!is_chain(w))
			break;
		if (len == LEN_MAX)
			return -EINVAL_;
	}
	if (cp->chain_count == CHAIN_MAX)
		return -EINVAL_;
	cp->chains[cp->chain_count++] = (struct chain){ address, len, host, 0 };
	cp->chain_brk = host + len * 8 + CHAIN_GAP;
	for (uint8_t *at = host; tics; at += 8) {
		uint64_t w = get64(at);
		if (!is_tic(w))
			continue;
		tics--;
		if (chain_find(cp, ccw_cda(w)))
			continue;
		int result = chain_build(cp, ccw_cda(w));
		if (result < 0)
			return result;
	}
	return 0;
}

NOINLINE int cp_init(struct cp *cp, struct iommu *io, uint32_t word1, uint32_t cpa)
{
	if (cp->state)
		return -EBUSY_;
	cp->io = io;
	cp->word1 = word1;
	bool c64 = word1 & 0x00020000;
	cp->idaw_size = c64 ? 8 : 4;
	cp->block_shift = c64 && !(word1 & 0x00010000) ? 12 : 11;
	int result = chain_build(cp, cpa);
	if (result < 0)
		chains_drop(cp);
	else
		cp->state = 1;
	return result;
}

static inline struct pin *pin_push(struct pin *pins, uint64_t page, struct pte *entry)
{
	pins--;
	pins->page = page;
	pins->entry = entry;
	pins->count = 1;
	return pins;
}

static inline bool pinnable(const struct pte *e, uint32_t mode)
{
	return e && (e->frame & 7) == 7 && mode > (e->pins == 0);
}

static NOINLINE void pins_close(struct cp *cp)
{
	cp->io->pins += cp->made;
	cp->io->pinned_pages += cp->newly;
	cp->io->locked += cp->newly;
}

static void block_undo(struct cp *cp, struct pin *pins, struct pin *to, uint32_t count)
{
	pins_close(cp);
	cp->made = cp->newly = 0;
	for (; pins < to; pins++)
		unpin_slowly(cp->io, pins->page, pins->count);
	if (to->count != count) {
		unpin_slowly(cp->io, to->page, to->count - count);
		to->count = count;
	}
}

static inline void pins_note(struct cp *cp, uint32_t made, uint32_t newly)
{
	cp->made += made;
	cp->newly += newly;
}

static inline bool fresh(const struct pte *e) { return (e->frame & 7) == 7 && !e->pins; }

static size_t fill_fresh(struct cp *cp, struct block *block, uint8_t *idal, size_t n, const uint8_t *list, uint64_t first)
{
	void *const *root = low_root(cp->io);
	struct pin *pins = block->pins;
	uint64_t word = __builtin_bswap64(first);
	size_t i = 0;
	while (root && !(uint32_t)word) {
		uint32_t page = __builtin_bswap32(word >> 32) >> 12;
		struct pte *e = low_pte(root, page);
		if (!e || !fresh(e))
			break;
		e->pins = 1;
		pins = pin_push(pins, page, e);
		put64(idal + i * 8, e->idaw | (word & OFFSET_MASK));
		if (++i == n)
			break;
		word = get64(list + i * 8);
	}
	block->pins = pins;
	pins_note(cp, i, i);
	return i;
}

static NOINLINE int fill(struct cp *cp, struct block *block, uint8_t *idal, size_t n, const uint8_t *list, uint64_t first, size_t done,
			 struct pin *top, uint32_t top_count)
{
	struct iommu *io = cp->io;
	uint32_t mode = io->mode, made = 0, newly = 0;
	bool wide = cp->idaw_size == 8;
	uint64_t size = 1ull << cp->block_shift, wrap = wide ? UINT64_MAX : UINT32_MAX;
	struct pin *pins = block->pins;
	uint64_t last = pins->page, address = first;
	if (done)
		address = __builtin_bswap64(get64(list + done * 8));
	for (size_t i = done;;) {
		uint64_t page = address >> 12;
		struct pte *e = pte_find(io, page);
		if (pinnable(e, mode)) {
			newly += e->pins == 0;
			e->pins++;
			made++;
		} else {
			int result = pin_slowly(io, page, &e);
			if (result != 1) {
				pins_note(cp, made, newly);
				block_undo(cp, pins, top, top_count);
				block->pins = top;
				return result;
			}
		}
		if (page != last) {
			pins = pin_push(pins, page, e);
			last = page;
		} else
			pins->count++;
		put64(idal + i * 8, e->idaw | (((uint64_t)__builtin_bswap32((uint32_t)address) << 32) & OFFSET_MASK));
		if (++i == n)
			break;
		if (!list)
			address = ((address + size) & ~(size - 1)) & wrap;
		else if (wide)
			address = __builtin_bswap64(get64(list + i * 8));
		else
			address = __builtin_bswap32(get32(list + i * 4));
	}
	block->pins = pins;
	pins_note(cp, made, newly);
	return 0;
}

static NOINLINE int idal_fill(struct cp *cp, struct block *block, uint8_t *idal, size_t n, const uint8_t *list, uint64_t first)
{
	struct pin *top = block->pins;
	uint32_t count = top->count;
	size_t done = 0;
	if (list && cp->idaw_size == 8 && cp->io->mode == 2) {
		done = fill_fresh(cp, block, idal, n, list, first);
		if (done == n)
			return 0;
	}
	return fill(cp, block, idal, n, list, first, done, top, count);
}

static NOINLINE int ccw_translate(struct cp *cp, uint8_t *at, uint64_t w)
{
	uint32_t shift = cp->block_shift, cda = ccw_cda(w);
	size_t size = cp->idaw_size;
	uint64_t block_size = 1ull << shift, first = cda;
	bool indirect = w & (IDA << 8);
	const uint8_t *list = NULL;
	if (indirect) {
		list = window(cp->io, cda, size);
		const void *word = list;
		if (!word) {
			int result = read_bytes(cp->io, cda, (uint8_t *)&cp->word, size);
			if (result < 0)
				return result;
			word = &cp->word;
		}
		first = size == 8 ? __builtin_bswap64(get64(word)) : __builtin_bswap32(get32(word));
	}
	uint32_t count = ccw_count(w);
	size_t n = ((first & (block_size - 1)) + (count ? count : 1) + block_size - 1) >> shift;
	struct block *block = block_with_room(cp, n * (8 + sizeof(struct pin)));
	if (!block)
		return -ENOMEM_;
	uint8_t *idal = block->brk;
	if (indirect && (!list || (cda & 4095) + n * size > 4096)) {
		uint8_t *copy = idal + n * (8 - size);
		int result = read_bytes(cp->io, cda, copy, n * size);
		if (result < 0)
			return result;
		if ((size == 8 ? __builtin_bswap64(get64(copy)) : __builtin_bswap32(get32(copy))) != first)
			return -EINVAL_;
		list = copy;
	}
	if (moves_data(w)) {
		int result = idal_fill(cp, block, idal, n, list, first);
		if (result < 0)
			return result;
	} else
		memset(idal, 0, n * 8);
	block->brk = idal + n * 8;
	put64(at, with_cda(w, idal, IDA));
	return 0;
}

static inline bool is_plain(uint64_t w)
{
	uint32_t cmd = w & 0xff;
	return !(w & ((IDA | SKIP) << 8)) && cmd != TIC && cmd != NOOP;
}

/* Plain CCWs each of which has a page below 4 GiB to itself. */
static NOINLINE uint8_t *fresh_run(struct cp *cp, struct block *block, uint8_t *at, uint8_t *stop)
{
	uint8_t *head = at, *brk = block->brk;
	uint32_t block_size = 1u << cp->block_shift, again = 0;
	void *const *root = low_root(cp->io);
	struct pin *pins = block->pins;
	if (!root)
		return at;
	for (; at < stop; at += 8, brk += 8) {
		uint64_t w = get64(at);
		uint32_t cda = ccw_cda(w), page = cda >> 12;
		if (!is_plain(w) || ccw_count(w) - 1 >= block_size - (cda & (block_size - 1)))
			break;
		struct pte *e = low_pte(root, page);
		if (!e || (e->frame & 7) != 7)
			break;
		if (e->pins) {
			if (pins->page == page)
				break;
			again++;
		}
		e->pins++;
		pins = pin_push(pins, page, e);
		put64(brk, e->idaw | (w & OFFSET_MASK));
		put64(at, with_cda(w, brk, IDA));
	}
	block->brk = brk;
	block->pins = pins;
	pins_note(cp, (at - head) >> 3, ((at - head) >> 3) - again);
	return at;
}

/* Plain CCWs of one command and the same flags that all lie in the page of the newest pin. */
static NOINLINE uint8_t *same_run(struct cp *cp, struct block *block, uint8_t *at, uint8_t *stop)
{
	uint8_t *head = at, *brk = block->brk;
	uint32_t block_size = 1u << cp->block_shift;
	struct pin *pin = block->pins;
	struct pte *e = pin->entry;
	uint64_t idaw = e->idaw, first = get64(at);
	const uint64_t mask = 0x00f0ffff0000ffffull;
	uint64_t alike = pin->page >> 20 ? 0x10000 : (uint64_t)__builtin_bswap32((uint32_t)pin->page << 12) << 32;
	if (!is_plain(first))
		return at;
	alike |= first & 0xffff;
	for (; at < stop; at += 8, brk += 8) {
		uint64_t w = get64(at);
		if ((w & mask) != alike || ccw_count(w) - 1 >= block_size - (ccw_cda(w) & (block_size - 1)))
			break;
		put64(brk, idaw | (w & OFFSET_MASK));
		put64(at, with_cda(w, brk, IDA));
	}
	uint32_t count = (at - head) >> 3;
	if (count) {
		block->brk = brk;
		pin->count += count;
		e->pins += count;
		pins_note(cp, count, 0);
	}
	return at;
}

static NOINLINE int chain_translate(struct cp *cp, struct chain *chain)
{
	uint8_t *at = chain->host, *tail = at + chain->len * 8;
	int result = 0;
	while (at < tail) {
		uint64_t w = get64(at);
		if (is_plain(w)) {
			struct block *block = cp->blocks;
			size_t room = ((uint8_t *)block->pins - block->brk) / (8 + sizeof(struct pin));
			uint8_t *stop = (size_t)(tail - at) / 8 < room ? tail : at + room * 8, *to = at;
			if (cp->io->mode == 2)
				to = fresh_run(cp, block, to, stop);
			if (to != stop)
				to = same_run(cp, block, to, stop);
			if (to != at) {
				at = to;
				continue;
			}
		}
		if (is_tic(w)) {
			struct chain *c = chain_find(cp, ccw_cda(w));
			if (c)
				put64(at, with_cda(w, c->host + (ccw_cda(w) - c->iova), 0));
			else
				result = -EFAULT_;
		} else
			result = ccw_translate(cp, at, w);
		if (result < 0)
			break;
		at += 8;
	}
	chain->translated = (at - chain->host) >> 3;
	return result;
}

NOINLINE int cp_prefetch(struct cp *cp)
{
	if (cp->state != 1)
		return -EINVAL_;
	int result = 0;
	cp->made = cp->newly = 0;
	cp->forced = cp->io->forced;
	for (struct chain *c = cp->chains; c < cp->chains + cp->chain_count && !result; c++)
		result = chain_translate(cp, c);
	pins_close(cp);
	cp->state = result < 0 ? 3 : 2;
	return result;
}

NOINLINE void cp_free(struct cp *cp)
{
	if (!cp->state)
		return;
	struct iommu *io = cp->io;
	struct block *block = cp->blocks;
	bool fast = io->forced == cp->forced;
	uint32_t pins = 0, gone = 0;
	for (;;) {
		for (struct pin *pin = block->pins; pin < block->end; pin++) {
			struct pte *e = pin->entry;
			if (fast && e->pins >= pin->count && e->frame & VALID) {
				e->pins -= pin->count;
				pins += pin->count;
				gone += e->pins == 0;
			} else
				unpin_slowly(io, pin->page, pin->count);
		}
		if (!block->next)
			break;
		struct block *next = block->next;
		free(block);
		block = next;
	}
	io->pins -= pins;
	io->pinned_pages -= gone;
	io->locked -= gone;
	block->brk = (uint8_t *)(block + 1);
	block->pins = block->end;
	cp->blocks = block;
	chains_drop(cp);
	cp->io = NULL;
	cp->state = 0;
}

/* ---- measuring ---- */
static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double run(struct cp *cp, struct iommu *io, uint32_t word1, uint32_t cpa, long n)
{
	double start = now();
	for (long i = 0; i < n; i++) {
		if (cp_init(cp, io, word1, cpa) | cp_prefetch(cp)) {
			fprintf(stderr, "the program is refused\n");
			exit(1);
		}
		cp_free(cp);
	}
	return (now() - start) / n;
}

int main(int argc, char **argv)
{
	FILE *in = argc > 1 ? fopen(argv[1], "r") : NULL;
	if (!in)
		return fprintf(stderr, "usage: ccw FILE\n"), 2;
	struct iommu io = { .leaf_index = UINT64_MAX, .mode = 2 };
	struct cp *cp = aligned_alloc(64, (sizeof(struct cp) + 63) & ~63ul);
	memset(cp, 0, sizeof *cp);
	block_init(cp, cp->first, sizeof cp->first);
	chains_drop(cp);
	ram = aligned_alloc(4096, 64 << 20);
	memset(ram, 0, 64 << 20);
	uint32_t next = 1 << 20, word1 = 0, cpa = 0;
	char *line = NULL, kind[8];
	size_t room = 0;
	while (getline(&line, &room, in) > 0) {
		uint64_t iova;
		int used = 0;
		if (sscanf(line, "%7s %" SCNx64 "%n", kind, &iova, &used) != 2)
			continue;
		if (!strcmp(kind, "orb")) {
			word1 = iova;
			cpa = strtoul(line + used, NULL, 16);
		} else if (!strcmp(kind, "page")) {
			table_add(&io, iova >> 12, next);
			next += 4096;
		} else {
			unsigned byte;
			for (const char *p = line + used + 1; sscanf(p, "%2x", &byte) == 1; p += 2, iova++) {
				struct pte *e = pte_find(&io, iova >> 12);
				ram[(e->frame & ~4095u) | (iova & 4095)] = byte;
			}
		}
	}
	fclose(in);

	if (cp_init(cp, &io, word1, cpa) || cp_prefetch(cp))
		return fprintf(stderr, "the program is refused\n"), 1;
	uint64_t pins = io.pins, words = 0;
	for (struct block *block = cp->blocks; block; block = block->next)
		for (uint8_t *at = (uint8_t *)(block + 1); at < block->brk; at += 8)
			words += __builtin_bswap64(get64(at));
	cp_free(cp);
	if (io.pins || io.pinned_pages || io.locked)
		return fprintf(stderr, "%" PRIu64 " pins are left\n", io.pins), 1;

	long n = 1000;
	while (run(cp, &io, word1, cpa, n) * n < 20e6)
		n *= 2;
	double rounds[7];
	for (int i = 0; i < 7; i++)
		rounds[i] = run(cp, &io, word1, cpa, n);
	qsort(rounds, 7, sizeof *rounds, compare);
	printf("translate %.2f\npins %" PRIu64 "\nwords %" PRIu64 "\n", rounds[3], pins, words);
	return 0;
}
