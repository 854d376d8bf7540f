import { beforeAll, describe, expect, it } from 'vitest';
import type { VfioInstance } from '../../host/inline.ts';
import { compareLine } from '../../host/vmm/recorded/check.ts';
import type { Line } from '../../host/vmm/recorded/lines.ts';
import { type RecordedMachine, runLine } from '../../host/vmm/recorded/runner.ts';
import { loadLines } from '../support/data.ts';
import { recordedMachine } from '../support/recorded_machine.ts';

const ZPCI = [
  'clp',
  'mpcifc',
  'stpcifc',
  'rpcit',
  'sclp',
  'pcilg',
  'pcistg',
  'pcistb',
  'missing-bar',
  'dma',
  'nvme',
  'random',
];
const CHANNEL = ['3270', 'addr', 'ccw', 'cmd', 'func', 'ida', 'msch', 'orb', 'random', 'sid', 'tpi', 'virtio'];

describe('recorded instruction sequences', () => {
  let vfio: VfioInstance;
  let machine: RecordedMachine;

  beforeAll(async () => {
    ({ vfio, machine } = await recordedMachine());
  });

  const unexplained = async (file: string): Promise<string[]> => {
    const lines = await loadLines<Line>(`insn/${file}.jsonl`);
    return lines.flatMap((line) =>
      compareLine(line, runLine(machine, line))
        .filter(({ reason }) => reason === undefined)
        .map(
          ({ id, step, insn, field, expected, actual }) => `${id} ${step} ${insn} ${field}: ${actual} not ${expected}`,
        ),
    );
  };

  for (const name of ZPCI)
    it(`z-${name}: condition code, interruption, registers and storage of every unmarked step are equal`, async () => {
      expect(await unexplained(`z-${name}`)).toEqual([]);
    });
  for (const name of CHANNEL)
    it(`c-${name}: codes are equal, status and storage where no trait applies`, async () => {
      expect(await unexplained(`c-${name}`)).toEqual([]);
    });

  it('a comparison does not let a wrong result pass', async () => {
    const [line] = await loadLines<Line>('insn/z-stpcifc.jsonl');
    const result = runLine(machine, line!);
    const step = result.steps.findIndex(({ st }) => st !== undefined);
    result.steps[step] = { ...result.steps[step], cc: 1 };
    result.steps[step + 1] = { ...result.steps[step + 1], st: [] };
    const found = compareLine(line!, result).map(({ field, reason }) => [field, reason]);
    expect(found).toContainEqual(['cc', undefined]);
    expect(found).toContainEqual(['st', undefined]);
  });

  it('everything is given back at the end', () => {
    machine.vm.destroy();
    vfio.exit();
    expect(vfio.kernel.core.liveBytes).toBe(0);
  });
});
