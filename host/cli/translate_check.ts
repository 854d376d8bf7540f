// A translation against what a vector expects: every normative field, differences in words.
import { compare } from './compare.ts';
import type { CcwOutput, Translation } from './translate_format.ts';

/** What is compared of a CCW: the values that the kernel leaves in the IDAL of a CCW without data are of no meaning, their number is. */
function normative(ccw: CcwOutput): unknown {
  const { residual, ...rest } = ccw;
  return residual === undefined ? rest : { ...rest, residual: residual.length };
}

function chains(translation: Partial<Translation>): unknown {
  return translation.chains?.map((chain) => ({ ...chain, ccws: chain.ccws.map(normative) }));
}

/** @returns the differences, empty when the translation is as expected. `calls` of a vector says how, not what: not compared. */
export function differences(expected: Partial<Translation>, actual: Translation): string[] {
  const into: string[] = [];
  const { cp_init, pfch_warning, cp_prefetch, pinned, orb_out, scsw, iova_pinned } = expected;
  compare(
    '',
    { cp_init, pfch_warning, cp_prefetch, chains: chains(expected), pinned, orb_out, scsw, iova_pinned },
    { ...actual, chains: chains(actual) },
    into,
  );
  return into;
}
