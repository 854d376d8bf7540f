// Commands that set up what the program may reach and where it begins: seek, file mask, set sector, define extent, locate record, prefix, and the
// subsystem functions. Source: spec channel-devices, 3390 section.
import type { Transfer } from '../../css/device.ts';
import { featureCodes, unitAddressConfiguration } from './configuration.ts';
import type { Domain } from './domain.ts';
import {
  DEFINE_EXTENT_SIZE,
  LOCATE_RECORD_EXTENDED_SIZE,
  LOCATE_RECORD_SIZE,
  MASK_HEAD_SEEK_ONLY,
  MASK_NO_SEEK,
  OP_EXTENDED,
  OP_FORMAT_WRITE,
  OP_ORIENT,
  OP_READ,
  OP_READ_DATA,
  OP_READ_TRACKS,
  OP_WRITE_DATA,
  OP_WRITE_TRACK,
  PREFIX_DEFINE_EXTENT,
  PREFIX_EXTENT_VALID,
  PREFIX_FORMAT,
  PREFIX_LOCATE_RECORD,
  PREFIX_ORDER,
  PREFIX_VALIDITY,
  parseExtent,
  parseLocate,
} from './parameters.ts';
import { type Command, DONE } from './reads.ts';
import { invalidParameter, invalidSequence, shortParameters } from './sense.ts';
import { HEADS } from './track.ts';

const ORDER_SIZE = 12;
const ORDER_PREPARE = 0x18;
const SUBORDER = 6;
const SUBORDER_FEATURE_CODES = 0x41;
const SUBORDER_UNIT_ADDRESSES = 0x0e;
const PREFIX_WITH_EXTENT = 0;
const PREFIX_WITH_LOCATE = 1;
const PREFIX_WITH_ORDER = 2;
/** More than any prefix has. */
const MAX_PARAMETERS = 512;

const OPERATIONS: readonly number[] = [
  OP_ORIENT,
  OP_WRITE_DATA,
  OP_FORMAT_WRITE,
  OP_READ_DATA,
  OP_WRITE_TRACK,
  OP_READ_TRACKS,
  OP_READ,
  OP_EXTENDED,
];

/** Fetches the parameters of a command. @throws CCW count too small. */
export function parameters(transfer: Transfer, size: number): Uint8Array {
  const bytes = transfer.fetch(size);
  if (bytes.length < size) throw shortParameters();
  return bytes;
}

/** Fetches a seek address: two zeros, cylinder, head. Not inside a locate-record domain. */
function seekAddress(domain: Domain, transfer: Transfer): [cylinder: number, head: number] {
  const view = new DataView(parameters(transfer, 6).buffer);
  if (domain.locate !== null) throw invalidSequence();
  const [cylinder, head] = [view.getUint16(2), view.getUint16(4)];
  if (view.getUint16(0) !== 0 || !domain.volume.has(cylinder, head)) throw invalidParameter();
  return [cylinder, head];
}

export const seek: Command = (domain, transfer) => {
  domain.checkSeek(MASK_NO_SEEK, MASK_HEAD_SEEK_ONLY);
  domain.seek(...seekAddress(domain, transfer));
  return DONE;
};

/** SEEK CYLINDER: as SEEK, under a mask that still allows it. */
export const seekCylinder: Command = (domain, transfer) => {
  domain.checkSeek(MASK_HEAD_SEEK_ONLY);
  domain.seek(...seekAddress(domain, transfer));
  return DONE;
};

/** SEEK HEAD: the arm stays at its cylinder. */
export const seekHead: Command = (domain, transfer) => {
  domain.checkSeek();
  const [, head] = seekAddress(domain, transfer);
  domain.seek(domain.cylinder, head);
  return DONE;
};

/** RECALIBRATE: to cylinder 0, head 0. */
export const recalibrate: Command = (domain) => {
  if (domain.locate !== null) throw invalidSequence();
  domain.checkSeek(MASK_NO_SEEK, MASK_HEAD_SEEK_ONLY);
  domain.seek(0, 0);
  return DONE;
};

/** SET SECTOR: the search finds its record wherever it is, so the sector changes nothing. */
export const setSector: Command = (_domain, transfer) => {
  parameters(transfer, 1);
  return DONE;
};

/** SET FILE MASK: once, and not where an extent is defined. */
export const setFileMask: Command = (domain, transfer) => {
  const [mask] = parameters(transfer, 1);
  if (domain.extent !== null || domain.fileMask !== null) throw invalidSequence();
  domain.fileMask = mask as number;
  return DONE;
};

export const defineExtent: Command = (domain, transfer) => {
  define(domain, parameters(transfer, DEFINE_EXTENT_SIZE));
  return DONE;
};

export const locateRecord: Command = (domain, transfer) => {
  locate(domain, parameters(transfer, LOCATE_RECORD_SIZE));
  return DONE;
};

export const locateRecordExtended: Command = (domain, transfer) => {
  const fixed = parameters(transfer, LOCATE_RECORD_EXTENDED_SIZE);
  const more = new DataView(fixed.buffer).getUint16(18);
  if (more > 0) parameters(transfer, more);
  locate(domain, fixed);
  return DONE;
};

/** PREFIX: an extent, then by format nothing more, a locate record extended, or a subsystem order. */
export const prefix: Command = (domain, transfer) => {
  const fixed = parameters(transfer, PREFIX_LOCATE_RECORD);
  const format = fixed[PREFIX_FORMAT];
  const rest = transfer.fetchRest(MAX_PARAMETERS);
  if (format !== PREFIX_WITH_EXTENT && format !== PREFIX_WITH_LOCATE && format !== PREFIX_WITH_ORDER)
    throw invalidParameter();
  if ((fixed[PREFIX_VALIDITY]! & PREFIX_EXTENT_VALID) !== 0) define(domain, fixed.subarray(PREFIX_DEFINE_EXTENT));
  if (format === PREFIX_WITH_LOCATE) {
    if (rest.length < LOCATE_RECORD_EXTENDED_SIZE) throw shortParameters();
    locate(domain, rest);
  }
  if (format === PREFIX_WITH_ORDER) {
    const order = rest.subarray(PREFIX_ORDER - PREFIX_LOCATE_RECORD);
    if (order.length < ORDER_SIZE) throw shortParameters();
    prepare(domain, order, 0);
  }
  return DONE;
};

/** PERFORM SUBSYSTEM FUNCTION. */
export const performSubsystemFunction: Command = (domain, transfer, unit) => {
  prepare(domain, parameters(transfer, ORDER_SIZE), unit.unitAddress);
  return DONE;
};

/** READ SUBSYSTEM DATA: what the order in the same program has prepared. */
export const readSubsystemData: Command = (domain, transfer) => {
  if (domain.subsystemData === null) throw invalidSequence();
  transfer.store(domain.subsystemData);
  domain.subsystemData = null;
  return DONE;
};

function define(domain: Domain, bytes: Uint8Array): void {
  if (domain.extent !== null || domain.locate !== null) throw invalidSequence();
  const extent = parseExtent(bytes);
  if (extent === null || extent.last >= domain.volume.cylinders * HEADS) throw invalidParameter();
  domain.extent = extent;
}

function locate(domain: Domain, bytes: Uint8Array): void {
  const wanted = parseLocate(bytes);
  if (domain.extent === null) throw invalidSequence();
  if (!OPERATIONS.includes(wanted.operation)) throw invalidParameter();
  if ((wanted.operation === OP_ORIENT) !== (wanted.count === 0)) throw invalidParameter();
  if (!domain.volume.has(wanted.seekCylinder, wanted.seekHead)) throw invalidParameter();
  domain.begin(wanted);
}

function prepare(domain: Domain, order: Uint8Array, unitAddress: number): void {
  if (order[0] !== ORDER_PREPARE) throw invalidParameter();
  const suborder = order[SUBORDER];
  if (suborder === SUBORDER_FEATURE_CODES) domain.subsystemData = featureCodes();
  else if (suborder === SUBORDER_UNIT_ADDRESSES) domain.subsystemData = unitAddressConfiguration(unitAddress);
  else throw invalidParameter();
}
