// Which bytes of configuration space a user sees as what: the walk over the capability chains, the length of each capability, and the masks
// of its fields (virtual: kept in vconfig; writable: a user's write is taken). Kernel counterpart: vfio_pci_config.c's cap tables.
// Source: spec pci sections 3, 3.1, 3.4.
import { PCI_CFG_SPACE_EXP_SIZE, PCI_CFG_SPACE_SIZE, PCI_HEADER_SIZE } from '../../devices/pci_config.ts';
import { PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT, PCI_MSI_FLAGS_MASKBIT } from '../../devices/pci_msi.ts';

/** Owner of a byte: the header, a standard capability id, EXTENDED + an extended id, or a gap. */
export const OWNER_HEADER = 0;
export const OWNER_GAP = 0xff;
export const EXTENDED = 0x100;

export const CAP_PM = 0x01;
const CAP_AGP = 0x02;
export const CAP_VPD = 0x03;
const CAP_SLOTID = 0x04;
export const CAP_MSI = 0x05;
const CAP_HOTSWAP = 0x06;
export const CAP_PCIX = 0x07;
const CAP_HT = 0x08;
export const CAP_VNDR = 0x09;
const CAP_DEBUG = 0x0a;
const CAP_CPCI = 0x0b;
const CAP_SHPC = 0x0c;
const CAP_SSVID = 0x0d;
const CAP_AGP8X = 0x0e;
const CAP_SECURE = 0x0f;
export const CAP_EXP = 0x10;
export const CAP_MSIX = 0x11;
const CAP_SATA = 0x12;
export const CAP_AF = 0x13;

const HIDDEN = new Set([
  0,
  CAP_SLOTID,
  CAP_HOTSWAP,
  CAP_DEBUG,
  CAP_CPCI,
  CAP_SHPC,
  CAP_SSVID,
  CAP_AGP8X,
  CAP_SECURE,
  0x14, // enhanced allocation
]);
export const EXT_AER = 0x01;
const EXT_VNDR = 0x0b;
const EXT_DVSEC = 0x23;
/** Extended capabilities of one length. */
const EXTENDED_LENGTH = new Map([
  [EXT_AER, 0x48],
  [0x03, 0x0c], // device serial number
  [0x04, 0x10], // power budgeting
  [0x0e, 0x08], // alternative routing id
  [0x0f, 0x08], // address translation
  [0x10, 0x40], // single-root I/O virtualisation
  [0x12, 0x30], // multicast
  [0x13, 0x10], // page request
  [0x18, 0x08], // latency tolerance
]);
/** Standard capabilities walk at most this often; the extended ones as many as fit. A hostile chain that loops ends there. */
const MAX_STANDARD = 48;
const MAX_EXTENDED = (PCI_CFG_SPACE_EXP_SIZE - PCI_CFG_SPACE_SIZE) / 8;

export interface Layout {
  /** Owner of each byte. */
  readonly owner: Uint16Array;
  /** Start of the capability that owns the byte; 0 for header and gaps. */
  readonly start: Uint16Array;
  /** Bits kept in vconfig, and bits that a user may write. */
  readonly virt: Uint8Array;
  readonly write: Uint8Array;
  /** What a user sees where `virt` says so. */
  readonly vconfig: Uint8Array;
  /** Offset of each visible standard capability by id. */
  readonly caps: Map<number, number>;
}

const u16 = (bytes: Uint8Array, at: number): number => (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
const u32 = (bytes: Uint8Array, at: number): number => (u16(bytes, at) | (u16(bytes, at + 2) << 16)) >>> 0;

function mark(masks: Uint8Array, at: number, width: number, mask: number): void {
  for (let i = 0; i < width && at + i < masks.length; i++) masks[at + i] = masks[at + i]! | ((mask >>> (8 * i)) & 0xff);
}
function unmark(masks: Uint8Array, at: number, width: number, mask: number): void {
  for (let i = 0; i < width && at + i < masks.length; i++) masks[at + i] = masks[at + i]! & ~(mask >>> (8 * i));
}

/** Lays out the space of hardware whose bytes these are. `vconfig` starts as a copy; the header's rules are applied by the caller. */
export function layOut(hardware: Uint8Array): Layout {
  const size = hardware.length;
  const layout: Layout = {
    owner: new Uint16Array(size).fill(OWNER_GAP),
    start: new Uint16Array(size),
    virt: new Uint8Array(size),
    // Gaps pass through in both directions.
    write: new Uint8Array(size).fill(0xff),
    vconfig: hardware.slice(),
    caps: new Map(),
  };
  layout.owner.fill(OWNER_HEADER, 0, PCI_HEADER_SIZE);
  headerMasks(layout);
  standardChain(layout, hardware);
  if (size > PCI_CFG_SPACE_SIZE) extendedChain(layout, hardware);
  return layout;
}

function headerMasks({ virt, write }: Layout): void {
  write.fill(0, 0, PCI_HEADER_SIZE);
  mark(virt, 0x00, 4, 0xffffffff);
  mark(virt, 0x04, 2, 0x0400);
  mark(write, 0x04, 2, 0xffff);
  mark(virt, 0x06, 2, 0x0010);
  write[0x0c] = 0xff; // cache line size
  write[0x0d] = 0xff; // latency
  write[0x0f] = 0xff; // BIST
  for (const at of [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30]) {
    mark(virt, at, 4, 0xffffffff);
    mark(write, at, 4, 0xffffffff);
  }
  virt[0x34] = 0xff; // capability pointer
  virt[0x3c] = 0xff; // interrupt line: scratch
  write[0x3c] = 0xff;
  virt[0x3d] = 0xff; // interrupt pin
}

function standardChain(layout: Layout, hardware: Uint8Array): void {
  const { vconfig } = layout;
  if ((u16(hardware, 0x06) & 0x10) === 0) {
    vconfig[0x34] = 0;
    return;
  }
  let link = 0x34;
  let pos = hardware[0x34]! & ~3;
  let visible = 0;
  for (let n = 0; pos >= PCI_HEADER_SIZE && n < MAX_STANDARD; n++) {
    const id = hardware[pos]!;
    const next = hardware[pos + 1]! & ~3;
    const length = id <= CAP_AF && !HIDDEN.has(id) ? standardLength(hardware, pos, id) : 0;
    if (length === 0 || layout.owner[pos] !== OWNER_GAP) vconfig[link] = next;
    else {
      vconfig[link] = pos;
      vconfig[pos + 1] = next;
      claim(layout, id, pos, length, 2);
      layout.caps.set(id, layout.caps.get(id) ?? pos);
      standardMasks(layout, id, pos);
      link = pos + 1;
      visible++;
    }
    pos = next;
  }
  vconfig[link] = 0;
  if (visible === 0) vconfig[0x06] = vconfig[0x06]! & ~0x10;
}

/** Gives the bytes to the capability: read-only hardware, except its header, which comes from vconfig. */
function claim(layout: Layout, owner: number, pos: number, length: number, header: number): void {
  const end = Math.min(pos + length, layout.owner.length);
  for (let at = pos; at < end; at++) {
    if (layout.owner[at] !== OWNER_GAP) continue;
    layout.owner[at] = owner;
    layout.start[at] = pos;
    layout.write[at] = 0;
  }
  layout.virt.fill(0xff, pos, Math.min(pos + header, end));
}

function standardLength(bytes: Uint8Array, pos: number, id: number): number {
  switch (id) {
    case CAP_PM:
    case CAP_VPD:
      return 8;
    case CAP_AGP:
      return 12;
    case CAP_MSI: {
      const flags = u16(bytes, pos + PCI_MSI_FLAGS);
      return 10 + ((flags & PCI_MSI_FLAGS_64BIT) !== 0 ? 4 : 0) + ((flags & PCI_MSI_FLAGS_MASKBIT) !== 0 ? 10 : 0);
    }
    case CAP_PCIX:
      return (u16(bytes, pos + 2) & 0x3000) !== 0 ? 24 : 8;
    case CAP_HT:
      return (bytes[pos + 3]! & 0xe0) !== 0 ? 8 : 28;
    case CAP_VNDR:
      return bytes[pos + 2]!;
    case CAP_EXP: {
      const flags = u16(bytes, pos + 2);
      const rootComplex = ((flags >> 4) & 0xf) === 0x9;
      return (flags & 0xf) < 2 ? (rootComplex ? 12 : 20) : rootComplex ? 44 : 52;
    }
    case CAP_MSIX:
      return 12;
    case CAP_SATA:
      return (bytes[pos + 4]! & 0xf) === 0xf ? 16 : 8;
    case CAP_AF:
      return 6;
    default:
      return 0;
  }
}

function standardMasks({ virt, write, vconfig, owner, start }: Layout, id: number, pos: number): void {
  switch (id) {
    case CAP_PM:
      mark(virt, pos + 2, 2, 0xf800);
      unmark(vconfig, pos + 2, 2, 0xf800);
      mark(virt, pos + 4, 4, 0x8100);
      unmark(vconfig, pos + 4, 4, 0x8100);
      mark(write, pos + 4, 4, ~0x8103 >>> 0);
      break;
    case CAP_MSI: {
      const flags = u16(vconfig, pos + PCI_MSI_FLAGS);
      const wide = (flags & PCI_MSI_FLAGS_64BIT) !== 0;
      const fields = wide ? [4, 8] : [4];
      mark(virt, pos + PCI_MSI_FLAGS, 1, 0xff);
      mark(write, pos + PCI_MSI_FLAGS, 1, 0xff);
      for (const at of fields) {
        mark(virt, pos + at, 4, 0xffffffff);
        mark(write, pos + at, 4, 0xffffffff);
      }
      const data = pos + (wide ? 12 : 8);
      mark(virt, data, 2, 0xffff);
      mark(write, data, 2, 0xffff);
      if ((flags & PCI_MSI_FLAGS_MASKBIT) !== 0) mark(write, data + 4, 8, 0xffffffff);
      break;
    }
    case CAP_EXP:
      mark(virt, pos + 8, 2, 0x8000 | 0x00e0 | 0x7000);
      mark(write, pos + 8, 2, 0xffff & ~0x0200);
      if (owner[pos + 0x28] === CAP_EXP) mark(write, pos + 0x28, 2, 0xffff & ~0x0020);
      break;
    case CAP_AF:
      mark(virt, pos + 4, 1, 0x01);
      mark(write, pos + 4, 1, 0x01);
      break;
    case CAP_VPD:
      mark(virt, pos + 2, 2, 0xffff);
      mark(write, pos + 2, 2, 0xffff);
      mark(virt, pos + 4, 4, 0xffffffff);
      mark(write, pos + 4, 4, 0xffffffff);
      break;
    case CAP_PCIX:
      mark(write, pos + 2, 2, 0xffff);
      break;
    case CAP_VNDR:
      // Its own bytes only: another one may follow at once.
      for (let at = pos + 2; owner[at] === CAP_VNDR && start[at] === pos; at++) write[at] = 0xff;
      break;
  }
}

function extendedLength(bytes: Uint8Array, pos: number, id: number): number {
  const fixed = EXTENDED_LENGTH.get(id);
  if (fixed !== undefined) return fixed;
  switch (id) {
    case EXT_VNDR:
    case EXT_DVSEC:
      return u32(bytes, pos + 4) >>> 20;
    case 0x02: // virtual channels
    case 0x08:
    case 0x09:
      return 16 + 8 + (u32(bytes, pos + 4) & 7) * 12;
    case 0x0d: // access control
      return (bytes[pos + 4]! & 0x20) === 0 ? 8 : 8 + Math.ceil((bytes[pos + 5]! || 256) / 32) * 4;
    case 0x15: // resizable BARs
      return 4 + 8 * ((u32(bytes, pos + 8) >>> 5) & 7);
    case 0x16: // dynamic power allocation
      return 16 + (u32(bytes, pos + 4) & 0x1f) + 1;
    case 0x17: // processing hints
      return 12 + ((u32(bytes, pos + 4) & 0x600) === 0x200 ? 2 * (((u32(bytes, pos + 4) >>> 16) & 0x7ff) + 1) : 0);
    default:
      return 0;
  }
}

function extendedChain(layout: Layout, hardware: Uint8Array): void {
  const { vconfig } = layout;
  const put = (at: number, value: number) => {
    for (let i = 0; i < 4; i++) vconfig[at + i] = value >>> (8 * i);
  };
  let last = 0;
  let pos = PCI_CFG_SPACE_SIZE;
  for (let n = 0; pos >= PCI_CFG_SPACE_SIZE && n < MAX_EXTENDED; n++) {
    const header = u32(hardware, pos);
    if (header === 0) break;
    const id = header & 0xffff;
    const next = (header >>> 20) & 0xffc;
    let length = extendedLength(hardware, pos, id);
    let owner = EXTENDED + id;
    // The first one cannot be unlinked: an empty header keeps the chain.
    if (length === 0 && pos === PCI_CFG_SPACE_SIZE) {
      length = 4;
      owner = EXTENDED;
    }
    if (length === 0 || layout.owner[pos] !== OWNER_GAP) {
      put(last, ((u32(vconfig, last) & 0xfffff) | (next << 20)) >>> 0);
    } else {
      put(pos, ((owner === EXTENDED ? 0 : header & 0xfffff) | (next << 20)) >>> 0);
      claim(layout, owner, pos, length, 4);
      if (id === EXT_AER) aerMasks(layout.write, pos);
      if (id === EXT_VNDR || id === EXT_DVSEC)
        for (let at = pos + 4; at < pos + length && layout.start[at] === pos; at++) layout.write[at] = 0xff;
      last = pos;
    }
    pos = next;
  }
  if (last !== 0) put(last, u32(vconfig, last) & 0xfffff);
  if (last === PCI_CFG_SPACE_SIZE && u32(vconfig, last) === 0) put(last, 0);
}

/** Status, mask and severity of errors: the bits that exist, writable in hardware. */
function aerMasks(write: Uint8Array, pos: number): void {
  const uncorrectable = 0x01fff030;
  const correctable = 0x0000f1c1;
  for (const at of [0x04, 0x08, 0x0c]) mark(write, pos + at, 4, uncorrectable);
  for (const at of [0x10, 0x14]) mark(write, pos + at, 4, correctable);
  mark(write, pos + 0x18, 4, 0x0140);
}
