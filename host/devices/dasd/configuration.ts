// What a 3390 behind a 2107 control unit says about itself. Source: spec channel-devices, "Sense ID answers observed" and the 3390 section; field
// meanings: 3990/2105 Storage Control Reference.
import { fromHex } from '../../hex.ts';
import { HEADS } from './track.ts';

export const SENSE_ID_SIZE = 24;
export const CHARACTERISTICS_SIZE = 64;
export const CONFIGURATION_DATA_SIZE = 256;
export const FEATURE_CODES_SIZE = 256;
export const UNIT_ADDRESS_CONFIGURATION_SIZE = 512;

/** Device model by size: 02 up to two thirds of a 3390-3, 0A up to it, 0C beyond. */
const deviceModel = (cylinders: number): number => (cylinders > 3339 ? 0x0c : cylinders > 2226 ? 0x0a : 0x02);

const bytes = (hex: string, size: number): Uint8Array => {
  const result = new Uint8Array(size);
  result.set(fromHex(hex));
  return result;
};

/** SENSE ID: FF, 2107-E8, 3390, then command words: configuration data FA, set interface id 27, read subsystem data 3E. */
export function senseId(cylinders: number): Uint8Array {
  const id = bytes('ff2107e833900000' + '40fa010041270004423e0100433e0008', SENSE_ID_SIZE);
  id[6] = deviceModel(cylinders);
  return id;
}

/**
 * READ DEVICE CHARACTERISTICS: control unit and device type, facilities, class and unit type, cylinders u16@12, heads u16@14, sectors
 * u8@16, track length u24@17, capacity factors, cylinders again as u32@60 for large volumes.
 */
export function characteristics(cylinders: number): Uint8Array {
  const fixed =
    '2107e8339000528010b720260000000fe000e5a205940222130906740000000000000000' +
    '000000002626' +
    '1f02dfee000106770800000048' +
    '0000ff';
  const result = bytes(fixed, CHARACTERISTICS_SIZE);
  const view = new DataView(result.buffer);
  view.setUint8(5, deviceModel(cylinders));
  view.setUint16(12, cylinders > 0xfff0 ? 0xfffe : cylinders);
  view.setUint16(14, HEADS);
  view.setUint32(60, cylinders);
  return result;
}

const EBCDIC: Readonly<Record<string, number>> = Object.fromEntries([
  ...[...'0123456789'].map((c, i) => [c, 0xf0 + i]),
  ...[...'ABCDEFGHI'].map((c, i) => [c, 0xc1 + i]),
  ...[...'JKLMNOPQR'].map((c, i) => [c, 0xd1 + i]),
  ...[...'STUVWXYZ'].map((c, i) => [c, 0xe2 + i]),
  [' ', 0x40],
]);

/** A node-element descriptor: flags, type and class, then type, model, manufacturer, plant, serial in EBCDIC, tag. */
function descriptor(flags: number, kind: string, text: string, tag: number): Uint8Array {
  const ned = new Uint8Array(32);
  ned[0] = flags;
  ned.set(bytes(kind, 3), 1);
  for (let i = 0; i < 26; i++) ned[4 + i] = EBCDIC[text[i] ?? ' '] ?? 0x40;
  new DataView(ned.buffer).setUint16(30, tag);
  return ned;
}

/** READ CONFIGURATION DATA: device, storage subsystem, storage control; at the end the general descriptor with unit address and subsystem. */
export function configurationData(unitAddress: number, serial: string): Uint8Array {
  const data = new Uint8Array(CONFIGURATION_DATA_SIZE);
  const number = serial.padStart(12, '0').slice(-12);
  data.set(descriptor(0xdc, '010100', ` 003390   VWASM${number}`.replace(/^ /, ''), 0x0100 | unitAddress), 0);
  data.set(descriptor(0xd4, '020000', `  3390   VWASM${number}`.padStart(26), 0), 32);
  data.set(descriptor(0xd0, '000000', `  2107E8 VWASM${number}`.padStart(26), 0), 64);
  const general = data.subarray(224);
  general[0] = 0x80;
  general[4] = 0x01;
  general[7] = 0x1e;
  general[9] = 0x01;
  general[30] = 0;
  general[31] = unitAddress;
  return data;
}

/** Feature codes: prefix (byte 8 bit 01), read track data (byte 9 bit 20), write track data (byte 12 bit 40). */
export function featureCodes(): Uint8Array {
  const codes = new Uint8Array(FEATURE_CODES_SIZE);
  codes[8] = 0x01;
  codes[9] = 0x20;
  codes[12] = 0x40;
  return codes;
}

/** Unit address configuration: two bytes a unit, type 01 = base. */
export function unitAddressConfiguration(unitAddress: number): Uint8Array {
  const units = new Uint8Array(UNIT_ADDRESS_CONFIGURATION_SIZE);
  units[2 * unitAddress] = 0x01;
  return units;
}
