import { describe, expect, it } from 'vitest';
import { toHex } from '../../../host/hex.ts';
import { encodeStruct } from '../../../host/script/structs.ts';
import type { JsonObject, Saved } from '../../../host/script/values.ts';

const saved = new Map<string, Saved>([['e', { ret: 6n, fields: undefined }]]);
const encode = (spec: JsonObject) => encodeStruct(spec, saved);
const hex = (spec: JsonObject) => toHex(encode(spec).bytes);

describe('structures of a script', () => {
  it('argsz defaults to the size of the structure, other missing fields are 0', () => {
    expect(hex({ type: 'vfio_iommu_type1_dma_map', flags: 3, iova: '0x1000' })).toBe(
      '2000000003000000' + '0000000000000000' + '0010000000000000' + '0000000000000000',
    );
  });

  it('argsz may lie; pad adds zero bytes behind the structure', () => {
    expect(hex({ type: 'vfio_irq_info', argsz: 12, pad: 4 })).toBe(`0c000000${'00'.repeat(16)}`);
  });

  it('pad is the value of a field of that name, too', () => {
    expect(hex({ type: 'vfio_device_info', argsz: 16, pad: 4 })).toBe(`10000000${'00'.repeat(16)}0400000000000000`);
  });

  it('counts only the fixed part in argsz when data follow', () => {
    const spec = { type: 'vfio_irq_set', flags: 36, index: 1, count: 2, data: ['$e', -1] };
    expect(hex(spec)).toBe('1400000024000000010000000000000002000000' + '06000000ffffffff');
    expect(encode(spec).decode()).toEqual({ argsz: 20n, flags: 36n, index: 1n, start: 0n, count: 2n, data: [6n, -1n] });
  });

  it('data of DATA_BOOL are bytes', () => {
    expect(hex({ type: 'vfio_irq_set', flags: 34, count: 3, data: [1, 0, 1] }).slice(40)).toBe('010001');
  });

  it('data objects have the fields of the structure that the header defines there', () => {
    const unmap = {
      type: 'vfio_iommu_type1_dma_unmap',
      argsz: 48,
      flags: 1,
      data: { pgsize: 4096, size: 8, data: '0x10' },
    };
    expect(hex(unmap).slice(48)).toBe('00100000000000000800000000000000' + '1000000000000000');
    const dirty = {
      type: 'vfio_iommu_type1_dirty_bitmap',
      flags: 4,
      data: { iova: 1, size: 2, bitmap: { pgsize: 3, size: 4, data: 5 } },
    };
    expect(hex(dirty).slice(16)).toBe([1, 2, 3, 4, 5].map((n) => `0${n}00000000000000`).join(''));
    expect(encode(dirty).decode()['data']).toEqual({ iova: 1n, size: 2n, bitmap: { pgsize: 3n, size: 4n, data: 5n } });
  });

  it.each([
    [1, { flags: 7 }, '0700000000000000'],
    [2, { device_state: 3, data_fd: -1 }, '03000000ffffffff'],
    [4, { wakeup_eventfd: '$e' }, '0600000000000000'],
    [6, { page_size: 4096, num_ranges: 1, ranges: 16 }, '0010000000000000' + '0100000000000000' + '1000000000000000'],
    [8, { iova: 1, length: 2, page_size: 3, bitmap: 4 }, [1, 2, 3, 4].map((n) => `0${n}00000000000000`).join('')],
    [9, { stop_copy_length: 5 }, '0500000000000000'],
    [10, { op: 1 }, '01000000'],
    [0, '00112233445566778899aabbccddeeff', '00112233445566778899aabbccddeeff'],
  ])('data of feature %i', (id, data, expected) => {
    const typed = encode({ type: 'vfio_device_feature', argsz: 8 + expected.length / 2, flags: 0x10000 + id, data });
    expect(toHex(typed.bytes).slice(16)).toBe(expected);
    expect(typed.decode()['data']).toBeDefined();
  });

  it('the decoded result has data only when data were given', () => {
    expect(encode({ type: 'vfio_device_feature', argsz: 16, flags: 0x10002, pad: 8 }).decode()).toEqual({
      argsz: 16n,
      flags: 0x10002n,
    });
  });

  it('cdev structures have the length of 6.12 unless argsz is given', () => {
    expect(encode({ type: 'vfio_device_bind_iommufd', iommufd: 3 }).bytes.length).toBe(16);
    expect(encode({ type: 'vfio_device_bind_iommufd', argsz: 24, token_uuid_ptr: 1 }).bytes.length).toBe(24);
    expect(encode({ type: 'vfio_device_attach_iommufd_pt', pt_id: 3 }).bytes.length).toBe(12);
    expect(encode({ type: 'vfio_device_detach_iommufd_pt', argsz: 12, pasid: 1 }).bytes.length).toBe(12);
  });

  it('trailing lists: group_fds, devices, areas, ranges', () => {
    expect(hex({ type: 'vfio_pci_hot_reset', count: 1, group_fds: ['$e'] })).toBe(
      '0c0000000000000001000000' + '06000000',
    );
    expect(encode({ type: 'vfio_pci_hot_reset_info', devices: [{ group_id: 3, bus: 1 }] }).bytes.length).toBe(20);
    expect(encode({ type: 'vfio_region_info_cap_sparse_mmap', areas: [{ offset: 0, size: 4096 }] }).bytes.length).toBe(
      32,
    );
    expect(
      encode({ type: 'vfio_iommu_type1_info_cap_iova_range', ranges: [{ start: 1, end: 2 }, {}] }).bytes.length,
    ).toBe(48);
  });

  it.each([
    [{ type: 'nosuch' }, /unknown structure type "nosuch"/],
    [{ type: 'vfio_group_status', colour: 1 }, /has no field "colour"/],
    [{ type: 'vfio_group_status', flags: '0x100000000' }, /does not fit into 32 bits/],
    [{ type: 'vfio_irq_set', data: 5 }, /a list is needed/],
    [{ type: 'vfio_device_feature', flags: 3, data: { a: 1 } }, /only bytes in hex/],
    [{ type: 's32', value: 'x' }, /neither a number/],
  ])('%j is refused', (spec, reason) => {
    expect(() => encode(spec)).toThrow(reason);
  });
});
