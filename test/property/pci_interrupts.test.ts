// Random life of interrupts against slow, obvious twins: none lost, none twice, and what is masked stays masked.
import { describe, expect, it } from 'vitest';
import type { PciMsix } from '../../host/devices/pci_msix.ts';
import type { VfioPciDevice } from '../../host/drivers/pci/device.ts';
import { VFIO_DEVICE_RESET } from '../../host/uapi/ioctl.ts';
import { Random, runs, seed } from '../support/counts.ts';
import { CONFIG, type Opened, openDevice, set, setIrqs, taken } from '../support/opened.ts';

const NONE = 1;
const BOOL = 2;
const EVENTFD = 4;
const MASK = 8;
const UNMASK = 16;
const TRIGGER = 32;
const STEPS = 150;
const VECTORS = 8;

/** INTx of edu in one page: what a level, a mask and a disable bit should do. */
class IntxTwin {
  active = false;
  bound = false;
  masked = false;
  disabled = false;
  wanted = false;
  signals = 0;
  #signal(): void {
    if (this.bound) this.signals++;
  }
  level(): void {
    if (this.active && !this.masked && this.wanted) {
      this.masked = true;
      this.#signal();
    }
  }
  unmask(): void {
    if (!this.active || !this.masked || this.disabled) return;
    if (this.wanted) this.#signal();
    else this.masked = false;
  }
  bind(bound: boolean): void {
    this.bound = bound;
    if (this.active) return;
    this.active = true;
    this.masked = this.disabled;
    this.level();
  }
  disableBit(on: boolean): void {
    if (on === this.disabled) return;
    this.disabled = on;
    if (on) this.masked = true;
    else this.unmask();
  }
  off(): void {
    this.active = false;
    this.bound = false;
    this.masked = false;
  }
  trigger(): void {
    if (this.active && !this.disabled) this.#signal();
  }
}

function intxStep(opened: Opened, twin: IntxTwin, random: Random, e: number): void {
  const one = { index: 0, count: 1 };
  switch (random.int(9)) {
    case 0:
      set(opened, 0x60, 1 << random.int(4));
      twin.wanted = true;
      twin.level();
      break;
    case 1:
      set(opened, 0x64, 0xffffffff);
      twin.wanted = false;
      break;
    case 2:
      if (setIrqs(opened, { ...one, flags: NONE | MASK }) === 0) twin.masked = true;
      break;
    case 3:
    case 4:
      setIrqs(opened, { ...one, flags: BOOL | UNMASK, bools: [1] });
      twin.unmask();
      break;
    case 5: {
      const bound = random.int(3) > 0;
      expect(setIrqs(opened, { index: 0, flags: EVENTFD | TRIGGER, fds: [bound ? e : -1] })).toBe(0);
      twin.bind(bound);
      break;
    }
    case 6: {
      const disabled = random.int(2) === 1;
      set(opened, CONFIG + 4n, disabled ? 0x406 : 6, 2);
      twin.disableBit(disabled);
      break;
    }
    case 7:
      if (random.int(4) === 0 && setIrqs(opened, { index: 0, flags: NONE | TRIGGER }) === 0) twin.off();
      break;
    case 8:
      setIrqs(opened, { ...one, flags: NONE | TRIGGER });
      twin.trigger();
      break;
  }
}

/** One MSI-X function: which vectors are bound, which wait. */
class MsixTwin {
  active = false;
  readonly bound: boolean[] = new Array(VECTORS).fill(false);
  readonly pending: boolean[] = new Array(VECTORS).fill(false);
  readonly signals: number[] = new Array(VECTORS).fill(0);
  master = false;
  interrupt(vector: number): void {
    if (!this.active) return;
    if (!this.bound[vector]) this.pending[vector] = true;
    else this.#deliver(vector);
  }
  #deliver(vector: number): void {
    if (this.master) this.signals[vector]!++;
  }
  bind(vector: number, on: boolean): void {
    this.active = true;
    this.bound[vector] = on;
    if (!on || !this.pending[vector]) return;
    this.pending[vector] = false;
    this.#deliver(vector);
  }
  off(): void {
    this.active = false;
    this.bound.fill(false);
  }
  reset(): void {
    this.pending.fill(false);
  }
}

describe(`interrupts, seed ${seed}`, () => {
  it('INTx follows its twin', async () => {
    for (let run = 0; run < runs(15); run++) {
      const random = new Random(seed + run);
      const opened = await openDevice(1, '0000:00:01.0');
      const e = opened.vfio.eventfd();
      const twin = new IntxTwin();
      set(opened, CONFIG + 4n, 6, 2);
      for (let step = 0; step < STEPS; step++) {
        intxStep(opened, twin, random, e);
        const expected = twin.signals;
        twin.signals = 0;
        expect([run, step, taken(opened, e)]).toEqual([run, step, expected]);
      }
      opened.vfio.exit();
      expect(opened.vfio.core.liveBytes).toBe(0);
    }
  });

  it('MSI-X follows its twin', async () => {
    for (let run = 0; run < runs(15); run++) {
      const random = new Random(seed + 1000 + run);
      const opened = await openDevice(2, '0000:00:02.0');
      const hw = (opened.vfio.kernel.nodes.get(1) as VfioPciDevice).hw as PciMsix;
      const fds = Array.from({ length: VECTORS }, () => opened.vfio.eventfd());
      const twin = new MsixTwin();
      for (let step = 0; step < STEPS; step++) {
        const vector = random.int(VECTORS);
        const choice = random.int(12);
        if (choice < 5) {
          if (twin.active) hw.interrupt(vector);
          twin.interrupt(vector);
        } else if (choice < 9) {
          const on = random.int(3) > 0;
          const request = { index: 2, flags: EVENTFD | TRIGGER, start: vector, fds: [on ? fds[vector]! : -1] };
          expect(setIrqs(opened, request)).toBe(0);
          twin.bind(vector, on);
        } else if (choice === 9) {
          twin.master = random.int(4) > 0;
          set(opened, CONFIG + 4n, twin.master ? 6 : random.int(2) * 2, 2);
        } else if (choice === 10) {
          if (setIrqs(opened, { index: 2, flags: NONE | TRIGGER }) === 0) twin.off();
        } else {
          expect(opened.vfio.ioctlRaw(opened.fd, VFIO_DEVICE_RESET)).toBe(0);
          twin.reset();
        }
        const got = fds.map((fd) => taken(opened, fd));
        expect([run, step, got]).toEqual([run, step, twin.signals]);
        twin.signals.fill(0);
      }
      opened.vfio.exit();
    }
  });
});
