// Sizes, offsets, constants and request numbers against what a C compiler measured in the current headers (test/data/uapi).
import { describe, expect, it } from 'vitest';
import * as abi from '../../assembly/abi.ts';
import { errnoName } from '../../host/errno.ts';
import * as constants from '../../host/uapi/constants.ts';
import { IOCTL_NUMBERS, ioctlName, OWN_IOCTL_NUMBERS } from '../../host/uapi/ioctl.ts';
import type { StructType } from '../../host/uapi/struct.ts';
import * as structs from '../../host/uapi/structs.ts';
import { loadText } from '../support/data.ts';

interface Layout {
  structs: Record<string, Record<string, { size: number; fields: { name: string; offset: number; size: number }[] }>>;
  constants: Record<string, Record<string, number>>;
}
const layout = JSON.parse(await loadText('uapi/layout.json')) as Layout;
const headers: Layout['structs'][string] = Object.assign({}, ...Object.values(layout.structs));
const numbers: Record<string, number> = Object.assign({}, ...Object.values(layout.constants));

// Structures that grew after the release we follow: the fields behind are not ours (spec vfio-core section 10, zdev section 1).
const GREW = new Set([
  'vfio_device_bind_iommufd',
  'vfio_device_attach_iommufd_pt',
  'vfio_device_detach_iommufd_pt',
  'vfio_device_info_cap_zpci_base',
]);

const ours = Object.values(structs as unknown as Record<string, StructType>).filter(
  (type) => type.structName !== 's32',
);

describe('errno', () => {
  it('has a name for every number of abi.ts', () => {
    const errnos = Object.entries(abi).filter(([name]) => /^E[0-9A-Z]+$/.test(name));
    expect(errnos.length).toBeGreaterThan(25);
    for (const [name, value] of errnos) expect(errnoName(-value)).toBe(name);
    expect(errnoName(999)).toBe('E999');
  });
});

describe('structures', () => {
  it.each(ours.map((type) => [type.structName, type] as const))('%s', (name, type) => {
    const measured = headers[name];
    expect(measured, 'is in the headers').toBeDefined();
    if (measured === undefined) return;
    const fields = measured.fields.filter((field) => !field.name.endsWith('[]'));
    for (const [field, offset] of Object.entries(type.offsets)) {
      const found = fields.find((candidate) => candidate.name.replace(/\[\d+\]$/, '') === field);
      expect(found, `${name}.${field}`).toBeDefined();
      expect(offset, `${name}.${field}`).toBe(found?.offset);
    }
    if (GREW.has(name)) expect(type.size).toBeLessThanOrEqual(measured.size);
    else {
      expect(type.size).toBe(measured.size);
      const covered = new Set(Object.values(type.offsets));
      for (const field of fields) expect(covered.has(field.offset), `${name}.${field.name} is missing`).toBe(true);
    }
  });

  it('round trip: every integer field keeps the value it was given', () => {
    for (const type of ours) {
      const instance = new type() as unknown as Record<string, unknown>;
      for (const [name, field] of Object.entries(
        type.fields as Record<string, { kind: string; size: number; signed: boolean }>,
      )) {
        if (field.kind !== 'int') continue;
        const value = field.size === 8 ? 0x8102030405060708n : field.signed ? -2 : 2 ** (8 * field.size) - 3;
        instance[name] = value;
        expect(instance[name], `${type.structName}.${name}`).toBe(value);
      }
    }
  });
});

describe('numbers', () => {
  it('constants equal the headers', () => {
    let compared = 0;
    for (const [name, value] of Object.entries(constants)) {
      if (!(name in numbers)) continue;
      expect(value, name).toBe(numbers[name]);
      compared++;
    }
    expect(compared).toBeGreaterThan(140);
  });

  it('requests equal the headers', () => {
    for (const [name, value] of Object.entries(IOCTL_NUMBERS)) expect(value, name).toBe(numbers[name]);
  });

  it('a request of our own lies outside what the headers have assigned', () => {
    const assigned = Object.values(IOCTL_NUMBERS);
    for (const [name, value] of Object.entries(OWN_IOCTL_NUMBERS)) {
      expect(value, name).toBeGreaterThan(Math.max(...assigned));
      expect(value >>> 8, name).toBe(0x3b);
      expect(ioctlName(value, 'device')).toBe(name);
    }
  });

  it('a number is named by the kind of file it goes to', () => {
    expect(ioctlName(0x3b71, 'container')).toBe('VFIO_IOMMU_MAP_DMA');
    expect(ioctlName(0x3b71, 'device')).toBe('VFIO_DEVICE_PCI_HOT_RESET');
    expect(ioctlName(0x1234)).toBe('0x1234');
  });
});
