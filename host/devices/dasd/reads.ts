// Commands that read the volume: search, count, key, data, home address, R0, whole tracks. Source: spec channel-devices, 3390 section.
import { ENDED, STATUS_MODIFIER, UNIT_EXCEPTION } from '../../css/cio.ts';
import type { CommandEnd, Transfer } from '../../css/device.ts';
import type { Domain } from './domain.ts';
import { homeAddress } from './image.ts';
import { OP_EXTENDED, OP_FORMAT_WRITE, OP_READ, OP_READ_TRACKS, OP_WRITE_DATA, ORIENT_COUNT } from './parameters.ts';
import { invalidSequence, shortParameters } from './sense.ts';
import { type CkdRecord, concat, countArea, trackBytes } from './track.ts';
import type { Volume } from './volume.ts';

/** The device as its commands see it. */
export interface Unit {
  readonly volume: Volume;
  readonly unitAddress: number;
  readonly serial: string;
  readonly pathGroup: Uint8Array;
}
/** One command. What is wrong is thrown as UnitCheckError. */
export type Command = (domain: Domain, transfer: Transfer, unit: Unit) => CommandEnd;

export const DONE: CommandEnd = { unitStatus: ENDED };
const MATCH: CommandEnd = { unitStatus: ENDED | STATUS_MODIFIER };
const END_OF_FILE: CommandEnd = { unitStatus: ENDED | UNIT_EXCEPTION };

const HOME_ADDRESS_SIZE = 5;
const SPECIAL_HOME_ADDRESS_SIZE = 28;
/** Where flag, cylinder and head are in the special home address. */
const SPECIAL_HOME_ADDRESS_AT = 20;

/** A locate-record domain must allow reading; without multitrack, its general read operation allows none of the data commands. */
function checkRead(domain: Domain, multitrack: boolean, data: boolean): void {
  const { operation } = domain;
  if (operation === null) return;
  if (operation === OP_WRITE_DATA || operation === OP_FORMAT_WRITE || operation === OP_READ_TRACKS)
    throw invalidSequence();
  if (operation === OP_READ && data && !multitrack) throw invalidSequence();
}

/** The record whose data come next: the one whose count or key has just gone by, or the following one. */
export function dataTarget(domain: Domain, multitrack: boolean): CkdRecord {
  const { current } = domain;
  const here = current !== undefined && (domain.area === 'count' || domain.area === 'key');
  const record = here ? current : domain.advance(multitrack);
  domain.count(record);
  return record;
}

export const readData =
  (multitrack: boolean): Command =>
  (domain, transfer) => {
    checkRead(domain, multitrack, true);
    const record = dataTarget(domain, multitrack);
    transfer.store(record.data);
    domain.found('data');
    return record.data.length === 0 ? END_OF_FILE : DONE;
  };

export const readKeyAndData =
  (multitrack: boolean): Command =>
  (domain, transfer) => {
    checkRead(domain, multitrack, true);
    const { current } = domain;
    const record = current !== undefined && domain.area === 'count' ? current : domain.advance(multitrack);
    domain.count(record);
    transfer.store(concat([record.key, record.data]));
    domain.found('data');
    return record.data.length === 0 ? END_OF_FILE : DONE;
  };

export const readCount =
  (multitrack: boolean): Command =>
  (domain, transfer) => {
    checkRead(domain, multitrack, false);
    const record = domain.advance(multitrack);
    domain.count(record);
    transfer.store(countArea(record));
    domain.found('count');
    return DONE;
  };

export const readCountKeyData =
  (multitrack: boolean): Command =>
  (domain, transfer) => {
    checkRead(domain, multitrack, true);
    const record = domain.advance(multitrack);
    domain.count(record);
    transfer.store(concat([countArea(record), record.key, record.data]));
    domain.found('data');
    return record.data.length === 0 ? END_OF_FILE : DONE;
  };

export const readRecordZero: Command = (domain, transfer) => {
  checkRead(domain, true, false);
  domain.count(null);
  const record = domain.toRecordZero();
  if (record !== undefined) transfer.store(concat([countArea(record), record.key, record.data]));
  domain.found('data');
  return DONE;
};

export const readHomeAddress: Command = (domain, transfer) => {
  checkRead(domain, true, false);
  domain.count(null);
  domain.toIndex();
  transfer.store(homeAddress(domain.cylinder, domain.head));
  return DONE;
};

/** The form with skip displacements and cell number: all zeros here. */
export const readSpecialHomeAddress: Command = (domain, transfer) => {
  checkRead(domain, true, false);
  domain.count(null);
  domain.toIndex();
  const bytes = new Uint8Array(SPECIAL_HOME_ADDRESS_SIZE);
  bytes.set(homeAddress(domain.cylinder, domain.head), SPECIAL_HOME_ADDRESS_AT);
  transfer.store(bytes);
  return DONE;
};

/** READ IPL: seeks cylinder 0 head 0 and reads record 1. */
export const readIpl: Command = (domain, transfer) => {
  domain.seek(0, 0);
  const record = domain.advance(false);
  transfer.store(record.data);
  domain.found('data');
  return DONE;
};

/** Lexical comparison of the argument with the record's: negative when the record's is lower. */
function compare(own: Uint8Array, argument: Uint8Array): number {
  for (let i = 0; i < argument.length; i++) {
    const difference = (own[i] ?? 0) - argument[i]!;
    if (difference !== 0) return difference;
  }
  return 0;
}

export type Relation = (difference: number) => boolean;
export const EQUAL: Relation = (difference) => difference === 0;
export const HIGH: Relation = (difference) => difference > 0;
export const EQUAL_OR_HIGH: Relation = (difference) => difference >= 0;

/** SEARCH ID: the next record's identifier against the argument. Status modifier when the relation holds. */
export const searchId =
  (relation: Relation, multitrack: boolean): Command =>
  (domain, transfer) => {
    if (domain.locate !== null) throw invalidSequence();
    const argument = transfer.fetch(5);
    if (argument.length === 0) throw shortParameters();
    const record = domain.advance(multitrack, true);
    const match = relation(compare(countArea(record).subarray(0, 5), argument));
    if (match) domain.found('count');
    else domain.area = 'count';
    return match ? MATCH : DONE;
  };

/** SEARCH KEY: the key of the record whose count has just gone by, or of the next one that has a key. */
export const searchKey =
  (relation: Relation, multitrack: boolean): Command =>
  (domain, transfer) => {
    if (domain.locate !== null) throw invalidSequence();
    const { current } = domain;
    let record = current !== undefined && domain.area === 'count' ? current : domain.advance(multitrack);
    while (record.key.length === 0) record = domain.advance(multitrack);
    const argument = transfer.fetch(record.key.length);
    const match = argument.length > 0 && relation(compare(record.key, argument));
    if (match) domain.found('key');
    else domain.area = 'key';
    return match ? MATCH : DONE;
  };

export const searchHomeAddress =
  (multitrack: boolean): Command =>
  (domain, transfer) => {
    if (domain.locate !== null) throw invalidSequence();
    const argument = transfer.fetch(HOME_ADDRESS_SIZE - 1);
    if (multitrack && domain.area !== 'gap') domain.nextTrack();
    domain.toIndex();
    const match = EQUAL(compare(homeAddress(domain.cylinder, domain.head).subarray(1), argument));
    return match ? MATCH : DONE;
  };

/** READ TRACK: every record of a track from R0 on (or from where the domain is oriented), then the end mark. One track per command. */
export const readTrack: Command = (domain, transfer) => {
  if (domain.operation !== OP_READ_TRACKS) throw invalidSequence();
  const first = domain.left === domain.locate?.count;
  domain.count(null);
  if (!first) domain.nextTrack();
  transfer.store(
    trackBytes(first && domain.locate?.orientation === ORIENT_COUNT ? domain.rest() : domain.track.records),
  );
  domain.toEnd();
  return DONE;
};

/**
 * READ TRACK DATA: the data areas one behind another, on the first track from the record searched for; on the last one as many bytes as the
 * transfer length says.
 */
export const readTrackData: Command = (domain, transfer) => {
  const { locate } = domain;
  if (locate === null || (domain.operation !== OP_READ_TRACKS && domain.operation !== OP_EXTENDED))
    throw invalidSequence();
  const first = domain.left === locate.count;
  domain.count(null);
  if (!first) domain.nextTrack();
  const records = first ? domain.rest() : domain.track.records;
  const data = concat(records.filter(({ record }) => record !== 0).map((record) => record.data));
  const limited = domain.left === 0 && locate.transferLength > 0;
  transfer.store(limited ? data.subarray(0, locate.transferLength) : data);
  domain.toEnd();
  return DONE;
};
