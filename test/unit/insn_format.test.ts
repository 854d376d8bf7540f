import { describe, expect, it } from 'vitest';
import { insnLine, insnMachine } from '../../host/cli/insn_format.ts';
import { problem } from '../../host/cli/shape.ts';
import { loadLines, loadText } from '../support/data.ts';

const PCILG = { i: 'PCILG', op: 'b9d20024', in: { r4: '0x80020000000f0004' }, cc: 3 };
const step = (fields: object) => problem(insnLine, { id: 'x', steps: [{ ...PCILG, ...fields }] });

describe('a recorded line', () => {
  it('of the vectors is well formed', async () => {
    for (const name of ['z-dma', 'z-sclp', 'z-pcistb', 'c-tpi', 'c-func', 'z-rpcit'])
      for (const line of await loadLines(`insn/${name}.jsonl`)) expect(problem(insnLine, line)).toBeUndefined();
  });

  for (const [line, wrong] of [
    [null, 'not an object'],
    [{ steps: [] }, 'id: not a name'],
    [{ id: 'x' }, 'steps: not a list'],
    [{ id: 'x', steps: [null] }, 'steps[0]: not an object'],
    [{ id: 'x', steps: [PCILG, {}] }, 'steps[1]: neither an instruction (i, op) nor cr6, sclp or dma'],
    [{ id: 'x', quirk: 'suspend', steps: [] }, 'quirk: not a list'],
    [{ id: 'x', steps: [{ cr6: 'all' }] }, 'steps[0].cr6: not a hex string with 0x'],
    [{ id: 'x', steps: [{ sclp: 'remove', v: 1 }] }, 'steps[0].sclp: not one of configure, deconfigure'],
    [{ id: 'x', steps: [{ dma: 'read', v: 1, len: 1e12 }] }, 'steps[0].len: more than 16777216 bytes'],
  ] as const)
    it(`${JSON.stringify(line)}: ${wrong}`, () => {
      expect(problem(insnLine, line)).toBe(wrong);
    });

  for (const [fields, wrong] of [
    [{ op: undefined }, 'op: not pairs of hex digits'],
    [{ op: 'b2360000' }, 'op: b2360000 is TPI, not PCILG'],
    [{ op: 'b2ff0000' }, 'op: b2ff0000 is no instruction that is known, not PCILG'],
    [{ i: 'LPSW' }, 'op: b9d20024 is PCILG, not LPSW'],
    [{ i: 'LPSW', op: '82000000' }, undefined],
    [{ in: { r16: '0x0' } }, 'in: r16 is no register'],
    [{ in: { r1: '-1' } }, 'in.r1: not a hex string with 0x'],
    [{ cc: 4 }, 'cc: not an integer from 0 to 3'],
    [{ out: 5 }, 'out: not an object'],
    [{ st: [['0x0']] }, 'st[0]: not a pair of address and bytes'],
    [{ set: [['0x0', '123']] }, 'set[0]: neither pairs of hex digits nor xx*n'],
    [{ set: [['0x0', '00*99999999']] }, 'set[0]: more than 16777216 bytes'],
  ] as const)
    it(`a step with ${JSON.stringify(fields)}: ${wrong ?? 'fine'}`, () => {
      expect(step(fields)).toBe(wrong === undefined ? undefined : `steps[0].${wrong}`);
    });
});

describe('machine.json', () => {
  it('of the vectors is well formed', async () => {
    expect(problem(insnMachine, JSON.parse(await loadText('insn/machine.json')))).toBeUndefined();
  });

  const fn = { fid: '0x1', handle: '0x20000', vendor_device: '1af4:1041' };
  for (const [fields, wrong] of [
    [{ storage: '64M' }, 'storage: not a hex string with 0x'],
    [{ storage: '0x110001' }, 'storage: not a multiple of 0x1000'],
    [{ storage: '0x100000' }, 'storage: below 0x110000'],
    [{ functions: [{}] }, 'functions[0].fid: not a hex string with 0x'],
    [{ functions: [{ ...fn, vendor_device: '1af4' }] }, 'functions[0].vendor_device: not such as 1af4:1041'],
    [{ functions: [{ ...fn, bars: { 6: { size: 4096 } } }] }, 'functions[0].bars.6: there are BARs 0 to 5'],
    [
      { functions: [{ ...fn, bars: { 0: { size: 64, regions: [{ at: 60, len: 8 }] } } }] },
      'functions[0].bars.0.regions[0]: outside the BAR',
    ],
    [{ functions: [{ ...fn, config: '00' }] }, 'functions[0].config: 1 bytes instead of 256'],
    [{ subchannels: [{ sid: '0x10000' }] }, 'subchannels[0].devno: not a hex string with 0x'],
  ] as const)
    it(`with ${JSON.stringify(fields)}: ${wrong}`, () => {
      expect(problem(insnMachine, { storage: '0x110000', functions: [], subchannels: [], ...fields })).toBe(wrong);
    });
});
