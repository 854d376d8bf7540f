// A channel on the bench: a core, a clock that stands still, a subchannel with some device behind it, and a builder of channel programs
// in plain (untranslated) storage. Addresses are linear.
import { ManualClock } from '../../host/clock.ts';
import type { Core } from '../../host/core.ts';
import { ORB_FORMAT1 } from '../../host/css/cio.ts';
import type { ChannelDevice, CommandEnd, Transfer } from '../../host/css/device.ts';
import { EngineSubchannel } from '../../host/css/engine.ts';
import type { CommandRecord } from '../../host/css/program.ts';
import { freshCore } from './core.ts';

/** A CCW to be placed. `at` overrides where (default: behind the one before). */
export interface CcwSpec {
  readonly command: number;
  readonly flags?: number;
  readonly count?: number;
  readonly address?: number;
}

/** An IRB taken apart. */
export interface IrbFields {
  readonly word0: number;
  readonly ccwAddress: number;
  readonly unitStatus: number;
  readonly channelStatus: number;
  readonly residual: number;
  readonly erw: number;
  readonly ecw: Uint8Array;
}

export function irbFields(irb: Uint8Array): IrbFields {
  const view = new DataView(irb.buffer, irb.byteOffset);
  return {
    word0: view.getUint32(0),
    ccwAddress: view.getUint32(4),
    unitStatus: view.getUint8(8),
    channelStatus: view.getUint8(9),
    residual: view.getUint16(10),
    erw: view.getUint32(16),
    ecw: irb.slice(32, 64),
  };
}

/** Puts CCWs of format 1 (or 0) one behind another. @returns the address behind the last. */
export function putCcws(core: Core, at: number, ccws: readonly CcwSpec[], format1 = true): number {
  let address = at;
  for (const { command, flags = 0, count = 0, address: data = 0 } of ccws) {
    if (format1) {
      core.view.setUint32(address, ((command << 24) | (flags << 16) | count) >>> 0);
      core.view.setUint32(address + 4, data);
    } else {
      core.view.setUint32(address, ((command << 24) | data) >>> 0);
      core.view.setUint32(address + 4, ((flags << 24) | count) >>> 0);
    }
    address += 8;
  }
  return address;
}

export function makeOrb(address: number, flags = ORB_FORMAT1): Uint8Array {
  const orb = new Uint8Array(32);
  const view = new DataView(orb.buffer);
  view.setUint32(4, flags);
  view.setUint32(8, address);
  return orb;
}

export class ChannelBench {
  readonly core: Core;
  readonly clock = new ManualClock();
  readonly subchannel: EngineSubchannel;
  /** Page-aligned storage for programs and data. */
  readonly base: number;
  readonly irbs: IrbFields[] = [];
  readonly fetched: number[] = [];
  readonly commands: CommandRecord[] = [];

  constructor(core: Core, device: ChannelDevice, chpids: readonly number[] = [0]) {
    this.core = core;
    this.base = core.userBase;
    this.subchannel = new EngineSubchannel({ busId: '0.0.0001', core, clock: this.clock, device, chpids });
    this.subchannel.observer = {
      fetched: (address) => this.fetched.push(address),
      commandEnded: (record) => this.commands.push(record),
    };
    this.subchannel.listener = {
      interrupt: (irb) => this.irbs.push(irbFields(irb)),
      channelPath: () => {},
      examine: () => {},
    };
    this.subchannel.enable(1);
  }

  /** Starts what lies at `address` and lets it run as far as it goes without time passing. @returns the last IRB. */
  run(address: number, flags = ORB_FORMAT1): IrbFields {
    const cc = this.subchannel.ssch(makeOrb(address, flags));
    if (cc !== 0) throw new Error(`start subchannel: condition code ${cc}`);
    this.clock.advance(0);
    const irb = this.irbs.at(-1);
    if (irb === undefined) throw new Error('no interruption');
    return irb;
  }

  bytes(address: number, length: number): number[] {
    return [...this.core.u8.subarray(address, address + length)];
  }
}

/** A device made of one function per command; anything else is rejected. */
export function device(
  commands: Record<number, (transfer: Transfer) => CommandEnd | null>,
  more: Partial<ChannelDevice> = {},
): ChannelDevice {
  return {
    execute: (command, transfer) =>
      commands[command]?.(transfer) ?? (command in commands ? null : { unitStatus: 0x0e, sense: Uint8Array.of(0x80) }),
    ...more,
  };
}

export const bench = async (behind: ChannelDevice, chpids?: readonly number[]): Promise<ChannelBench> =>
  new ChannelBench(await freshCore({ length: 1 << 20 }), behind, chpids);
