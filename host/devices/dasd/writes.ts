// Commands that write the volume: data, key and data, format writes, R0 and home address, whole tracks. What the program does not give of a
// record is zeros. Source: spec channel-devices, 3390 section.
import type { Transfer } from '../../css/device.ts';
import type { Domain } from './domain.ts';
import {
  EXT_WRITE_FULL_TRACK,
  EXT_WRITE_TRACK_DATA,
  MASK_NO_FORMAT,
  MASK_NO_HA_R0,
  OP_EXTENDED,
  OP_FORMAT_WRITE,
  OP_WRITE_DATA,
  OP_WRITE_TRACK,
} from './parameters.ts';
import { type Command, DONE, dataTarget } from './reads.ts';
import { invalidSequence, invalidTrackFormat, shortParameters } from './sense.ts';
import { type CkdRecord, COUNT_SIZE, fits, fromCount, MAX_DATA, parseTrack, recordZero } from './track.ts';

/** Longest form of a track as WRITE FULL TRACK gives it. */
const MAX_TRACK = 65535;

/** Inside a locate-record domain its operation decides what may be written; outside, a search must have found the record. */
function checkUpdate(domain: Domain): void {
  domain.checkWrite();
  const { operation } = domain;
  if (operation === null) {
    if (domain.area !== 'count' && domain.area !== 'key') throw invalidSequence();
  } else if (operation !== OP_WRITE_DATA && operation !== OP_WRITE_TRACK) throw invalidSequence();
}

/** The record as it is on the volume, to be written on. */
function own(domain: Domain, record: CkdRecord): CkdRecord {
  const index = domain.track.records.indexOf(record);
  const { records } = domain.volume.writable(domain.cylinder, domain.head);
  return records[index] ?? record;
}

export const writeData =
  (multitrack: boolean): Command =>
  (domain, transfer) => {
    checkUpdate(domain);
    const target = dataTarget(domain, multitrack);
    update(domain, target, transfer, false);
    return DONE;
  };

export const writeKeyAndData =
  (multitrack: boolean): Command =>
  (domain, transfer) => {
    checkUpdate(domain);
    const { current } = domain;
    const target = current !== undefined && domain.area === 'count' ? current : domain.advance(multitrack);
    domain.count(target);
    update(domain, target, transfer, true);
    return DONE;
  };

function update(domain: Domain, target: CkdRecord, transfer: Transfer, withKey: boolean): void {
  const record = own(domain, target);
  const keyLength = withKey ? record.key.length : 0;
  const bytes = new Uint8Array(keyLength + record.data.length);
  if (bytes.length > 0) bytes.set(transfer.fetch(bytes.length));
  record.key.set(bytes.subarray(0, keyLength));
  record.data = bytes.slice(keyLength);
  domain.found('data');
}

/** Fetches count area, key and data of a record to be written. */
function fetchRecord(transfer: Transfer): CkdRecord {
  const count = transfer.fetch(COUNT_SIZE);
  if (count.length < COUNT_SIZE) throw shortParameters();
  const record = fromCount(count);
  if (record.data.length > MAX_DATA) throw invalidTrackFormat();
  const size = record.key.length + record.data.length;
  // With SLI only the count area may come; the rest of the record is zeros then.
  if (size > 0 && transfer.more) {
    const bytes = new Uint8Array(size);
    bytes.set(transfer.fetch(size));
    record.key.set(bytes.subarray(0, record.key.length));
    record.data = bytes.slice(record.key.length);
  }
  return record;
}

/**
 * WRITE COUNT, KEY AND DATA: behind the record at the head; whatever followed is gone. `nextTrack`: first moves to R0 of the next track, inside
 * a format-write domain only.
 */
export const writeCountKeyData =
  (nextTrack: boolean): Command =>
  (domain, transfer) => {
    domain.checkWrite(MASK_NO_FORMAT);
    const { operation } = domain;
    if (operation === null) {
      if (nextTrack || domain.area === 'gap') throw invalidSequence();
    } else if (operation !== OP_FORMAT_WRITE && operation !== OP_WRITE_TRACK) throw invalidSequence();
    domain.count(null);
    if (nextTrack) {
      domain.nextTrack();
      domain.toRecordZero();
    }
    const record = fetchRecord(transfer);
    if (!fits([...domain.upToHere(), record])) throw invalidTrackFormat();
    domain.append(record);
    return DONE;
  };

/** ERASE: as a format write, but the record is not written. */
export const erase: Command = (domain, transfer) => {
  domain.checkWrite(MASK_NO_FORMAT);
  if (domain.area === 'gap' || domain.locate !== null) throw invalidSequence();
  fetchRecord(transfer);
  domain.truncate();
  domain.found('data');
  return DONE;
};

export const writeRecordZero: Command = (domain, transfer) => {
  domain.checkWrite(MASK_NO_FORMAT, MASK_NO_HA_R0);
  const record = fetchRecord(transfer);
  // Every track begins with a record 0, or nothing that reads whole tracks would find its way.
  if (record.record !== 0 || !fits([record])) throw invalidTrackFormat();
  domain.volume.put(domain.cylinder, domain.head, { records: [record] });
  domain.toIndex();
  domain.toEnd();
  return DONE;
};

/** Cylinder and head come again as they are; a track with a new home address has R0 only. */
export const writeHomeAddress: Command = (domain, transfer) => {
  domain.checkWrite(MASK_NO_FORMAT, MASK_NO_HA_R0);
  if (transfer.fetch(5).length < 5) throw shortParameters();
  domain.volume.put(domain.cylinder, domain.head, { records: [recordZero(domain.cylinder, domain.head)] });
  domain.toIndex();
  return DONE;
};

function nextOfDomain(domain: Domain, extended: number): boolean {
  if (domain.operation !== OP_EXTENDED || domain.locate?.extendedOperation !== extended) throw invalidSequence();
  const first = domain.left === domain.locate.count;
  domain.count(null);
  if (!first) domain.nextTrack();
  return first;
}

/** WRITE FULL TRACK: R0 and all records as READ TRACK gives them, the end mark last. One track per command. */
export const writeFullTrack: Command = (domain, transfer) => {
  domain.checkWrite(MASK_NO_FORMAT, MASK_NO_HA_R0);
  nextOfDomain(domain, EXT_WRITE_FULL_TRACK);
  const bytes = transfer.fetchRest(MAX_TRACK);
  const parsed = parseTrack(bytes, 0, bytes.length);
  if (typeof parsed === 'string' || parsed.records[0]?.record !== 0) throw invalidTrackFormat();
  if (!fits(parsed.records.slice(1))) throw invalidTrackFormat();
  domain.volume.put(domain.cylinder, domain.head, { records: parsed.records });
  domain.toIndex();
  domain.toEnd();
  return DONE;
};

/** WRITE TRACK DATA: data areas one behind another, on the first track from the record searched for, as far as the program gives data. */
export const writeTrackData: Command = (domain, transfer) => {
  domain.checkWrite();
  const first = nextOfDomain(domain, EXT_WRITE_TRACK_DATA);
  const records = (first ? domain.rest() : domain.track.records).filter(({ record }) => record !== 0);
  for (const record of records) {
    if (!transfer.more) break;
    const target = own(domain, record);
    const bytes = new Uint8Array(target.data.length);
    bytes.set(transfer.fetch(bytes.length));
    target.data = bytes;
  }
  domain.toEnd();
  return DONE;
};
