// The comparison of recorded sequences judges: what a mark, a trait or a reason excuses is no more than it says. Each case spoils a result that is
// as recorded and expects the verdict to change.
import { beforeAll, describe, expect, it } from 'vitest';
import type { VfioInstance } from '../../host/inline.ts';
import { compareLine } from '../../host/vmm/recorded/check.ts';
import type { Line, LineResult, StepResult } from '../../host/vmm/recorded/lines.ts';
import { type RecordedMachine, runLine } from '../../host/vmm/recorded/runner.ts';
import { loadLines } from '../support/data.ts';
import { recordedMachine } from '../support/recorded_machine.ts';

let vfio: VfioInstance;
let machine: RecordedMachine;

beforeAll(async () => {
  ({ vfio, machine } = await recordedMachine());
});

async function lineOf(id: string): Promise<Line> {
  const group = id.slice(0, id.indexOf('/'));
  const file = group.startsWith('c-') ? group : `z-${group.replace(/^zrandom$/, 'random')}`;
  const line = (await loadLines<Line>(`insn/${file}.jsonl`)).find((candidate) => candidate.id === id);
  if (line === undefined) throw new Error(`no line ${id}`);
  return line;
}

/** Steps and fields that nothing explains once `spoil` has changed the result. */
async function failures(id: string, spoil: (steps: StepResult[], line: Line) => void): Promise<string[]> {
  const line = await lineOf(id);
  const result = runLine(machine, line);
  expect(verdict(line, result), 'as recorded before').toEqual([]);
  spoil(result.steps, line);
  return verdict(line, result);
}
const verdict = (line: Line, result: LineResult): string[] =>
  compareLine(line, result)
    .filter(({ reason }) => reason === undefined)
    .map(({ step, insn, field }) => `${step} ${insn} ${field}`);

/** Changes bytes of what a step stored: `text` at hexadecimal digit `digit` of its first run. */
const overwrite = (step: StepResult, digit: number, text: string): void => {
  const [[address, bytes], ...others] = step.st as [[string, string], ...Array<[string, string]>];
  step.st = [[address, bytes.slice(0, digit) + text + bytes.slice(digit + text.length)], ...others];
};
const COUNT = 20;
const CPA = 8;

describe('trait 2, fields that the emulator does not clear', () => {
  it('a residual count of a command that stores one must be equal', async () => {
    expect(await failures('c-ccw/senseid-256s', (steps) => overwrite(steps[3]!, COUNT, '0005'))).toEqual(['3 TSCH st']);
    expect(await failures('c-virtio/read-feat-sli-6', (steps) => overwrite(steps[3]!, COUNT, '0002'))).toEqual([
      '3 TSCH st',
    ]);
  });
  it('that of NOP is not looked at', async () => {
    expect(await failures('c-func/pending-hsch', (steps) => overwrite(steps[2]!, 76, '0007'))).toEqual([]);
  });
  it('where a program ended must be equal', async () => {
    expect(await failures('c-ccw/chain2', (steps) => overwrite(steps[3]!, CPA, '00100218'))).toEqual(['3 TSCH st']);
  });
});

describe('trait 4, wrong counts', () => {
  it('a program check for another reason must be one here', async () => {
    for (const id of ['c-ccw/cmd-x0-1', 'c-ccw/tic-self', 'c-ccw/cda-outside'])
      expect(await failures(id, (steps) => overwrite(steps[3]!, 16, '0c00')), id).toContain('3 TSCH st');
  });
  it('data of a command with the right count must be equal', async () => {
    expect(await failures('c-ccw/senseid-256', (steps) => overwrite(steps[1]!, 0, 'fe'))).toEqual(['1 SSCH st']);
    expect(await failures('c-virtio/read-conf-sli-8', (steps) => overwrite(steps[1]!, 2, '11'))).toEqual(['1 SSCH st']);
  });
});

describe('a program that the driver refused', () => {
  it('a program check at the first CCW alone does not tell that it was', async () => {
    const spoiled = await failures('c-ccw/chain2', (steps) => {
      overwrite(steps[3]!, 0, '008040170010020800200000');
    });
    expect(spoiled).toEqual(['3 TSCH st']);
  });
});

describe('mark suspend', () => {
  it('condition codes of the functions stay valid', async () => {
    const spoiled = await failures('c-msch/busy', (steps) => {
      for (const step of [6, 9]) steps[step] = { cc: 0 };
      steps[3] = { ...steps[3], cc: 1 };
    });
    expect(spoiled).toEqual(['3 TSCH cc', '6 MSCH cc', '9 MSCH cc']);
  });
});

describe('mark ida-restart', () => {
  it('excuses the bytes, not the places', async () => {
    expect(await failures('c-ida/ida64-4k-split', (steps) => overwrite(steps[1]!, 0, 'aa'))).toEqual([]);
    expect(
      await failures('c-ida/ida64-4k-split', (steps) => {
        steps[1]!.st = steps[1]!.st!.slice(0, 1);
      }),
    ).toEqual(['1 SSCH st']);
  });
});

describe('mark standby-ls', () => {
  it('excuses what reaches the function by the kept handle, from its deconfiguration until it is disabled', async () => {
    const spoiled = await failures('sclp/configure', (steps) => {
      steps[3] = { cc: 3 };
      steps[17] = { cc: 3 };
      steps[22] = { cc: 3 };
      steps[30] = { cc: 3 };
    });
    expect(spoiled).toEqual(['3 CLP cc', '3 CLP st', '22 STPCIFC cc', '22 STPCIFC st', '30 PCILG cc', '30 PCILG out']);
  });
});

describe('marks of DMA are project decisions that agree with the recording', () => {
  for (const id of ['dma/blocked', 'dma/above-range'])
    it(id, async () => {
      const line = await lineOf(id);
      const dma = line.steps.findIndex((step) => step.dma !== undefined);
      const spoiled = await failures(id, (steps) => {
        steps[dma] = { completed: 1 - (line.steps[dma]?.completed ?? 0) };
      });
      expect(spoiled).toEqual([`${dma} write completed`]);
    });
});

it('a channel sequence is judged as one whatever it is called', async () => {
  const line = { ...(await lineOf('c-func/pending-hsch')), id: 'mine/1' };
  expect(verdict(line, runLine(machine, line))).toEqual([]);
});

it('loads of one byte count everywhere but in the NVMe group', async () => {
  const line = await lineOf('pcilg/pcilg-netcfg');
  const at = line.steps.findIndex((step) => step.i === 'PCILG' && step.in?.['r4'] === '0x8002000000040001');
  const spoiled = structuredClone(line) as Line & { steps: Array<{ out?: Record<string, string> }> };
  spoiled.steps[at]!.out = { r2: '0x401' };
  expect(verdict(spoiled, runLine(machine, line))).toEqual([`${at} PCILG out`]);
});

it('lines are independent: what a program stored anywhere is gone before the next one', async () => {
  const zero = await lineOf('c-ccw/f0-tic-zero');
  const before = runLine(machine, zero);
  runLine(machine, await lineOf('c-ccw/cda-zero'));
  expect(runLine(machine, zero)).toEqual(before);
});

it('the same bytes in storage are no difference, although one side had them before', async () => {
  const spoiled = await failures('c-tpi/intparm-changed', (steps) => {
    // The second block at the same address, told in full instead of by what changed.
    steps[7]!.st = [['0x100a00', '0001000000007777']];
  });
  expect(spoiled).toEqual([]);
});

it('a loop of commands without data ends with a program check at the 256th', async () => {
  const line = structuredClone(await lineOf('c-ccw/tic-self')) as Line & { steps: Array<{ set?: unknown }> };
  line.steps[1]!.set = [
    ['0x100100', '600dcafe0080ff0000100200'],
    ['0x100200', '0360000100000000'],
    ['0x100208', '0360000100000000'],
    ['0x100210', '0800000000100200'],
  ];
  const { steps } = runLine(machine, line);
  expect(steps.map(({ cc }) => cc)).toEqual([0, 0, 1, 0]);
  expect(steps[3]?.st?.[0]?.[1].slice(0, 24)).toBe('008040170010021000200001');
});

it('a virtio control unit finds its parameters in the buffer that it fills', async () => {
  const line = structuredClone(await lineOf('c-virtio/rev-value-1')) as Line & { steps: Array<{ set?: unknown }> };
  const read = (index: string) => {
    line.steps[7]!.set = [
      ['0x101040', 'ee*8'],
      ['0x101044', index],
      ['0x100200', '1200000500101040'],
    ];
    return runLine(machine, line).steps[7]?.st?.[0]?.[1];
  };
  expect([read('00'), read('01'), read('02')]).toEqual(['546e0030', '01010000', '00000000']);
});

it('everything is given back at the end', () => {
  machine.vm.destroy();
  vfio.exit();
  expect(vfio.kernel.core.liveBytes).toBe(0);
});
