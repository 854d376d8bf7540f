// The recorded programs on offer (scripts/demo-programs.mjs picks them from the test data).
import programs from './programs.json';

/** A channel program as it was recorded (test/data/ccw-real). */
export interface Recording {
  readonly name: string;
  readonly source: string;
  readonly devtype: string;
  /** First 12 bytes of the ORB, hex. */
  readonly orb: string;
  readonly ccw_format: 0 | 1;
  readonly memory: readonly { readonly iova: string; readonly hex: string }[];
  readonly data: readonly { readonly iova: string; readonly len: number; readonly dir: string }[];
  readonly outcome: { readonly unit_status: string; readonly channel_status: string; readonly residual_count: number };
}

export const PROGRAMS = programs as unknown as readonly { readonly note: string; readonly recording: Recording }[];
