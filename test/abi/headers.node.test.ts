// The same against the headers of this very machine, where it has a C compiler and linux/vfio.h: a small program prints sizes and
// offsets of every structure that both know.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { IOCTL_NUMBERS } from '../../host/uapi/ioctl.ts';
import type { StructType } from '../../host/uapi/struct.ts';
import * as structs from '../../host/uapi/structs.ts';

const HEADERS = ['vfio.h', 'vfio_ccw.h', 'vfio_zdev.h', 'iommufd.h'].filter((name) =>
  existsSync(`/usr/include/linux/${name}`),
);
const haveCompiler = spawnSync('cc', ['--version']).status === 0;
const usable = haveCompiler && HEADERS.includes('vfio.h');

/** Offsets of the fields by structure, `sizeof` under the empty name. */
function measure(): Map<string, Map<string, number>> {
  const text = HEADERS.map((name) => readFileSync(`/usr/include/linux/${name}`, 'utf8')).join('\n');
  const lines: string[] = [];
  for (const type of Object.values(structs) as unknown as StructType[]) {
    const body = new RegExp(`struct ${type.structName}\\s*\\{([\\s\\S]*?)\\n\\}`).exec(text)?.[1];
    if (body === undefined) continue;
    lines.push(`printf("${type.structName}  %zu\\n", sizeof(struct ${type.structName}));`);
    for (const field of Object.keys(type.offsets))
      if (new RegExp(`\\b${field}\\b`).test(body))
        lines.push(`printf("${type.structName} ${field} %zu\\n", offsetof(struct ${type.structName}, ${field}));`);
  }
  for (const name of Object.keys(IOCTL_NUMBERS))
    lines.push(`\n#ifdef ${name}\nprintf("ioctl ${name} %lu\\n", (unsigned long)${name});\n#endif\n`);
  const source = `#include <stdio.h>\n#include <stddef.h>\n${HEADERS.map((name) => `#include <linux/${name}>`).join('\n')}
int main(void) {\n${lines.join('\n')}\nreturn 0; }\n`;
  const folder = mkdtempSync(join(tmpdir(), 'uapi-'));
  try {
    writeFileSync(join(folder, 'layout.c'), source);
    execFileSync('cc', ['-o', join(folder, 'layout'), join(folder, 'layout.c')]);
    const result = new Map<string, Map<string, number>>();
    for (const line of execFileSync(join(folder, 'layout'), { encoding: 'utf8' }).trim().split('\n')) {
      const [owner = '', field = '', value] = line.split(' ');
      if (!result.has(owner)) result.set(owner, new Map());
      result.get(owner)?.set(field, Number(value));
    }
    return result;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.runIf(usable)('the headers of this machine', () => {
  const measured = usable ? measure() : new Map<string, Map<string, number>>();

  it('agree on sizes and offsets of every structure that both know', () => {
    let known = 0;
    for (const type of Object.values(structs) as unknown as StructType[]) {
      const header = measured.get(type.structName);
      if (header === undefined) continue;
      known++;
      for (const [field, offset] of Object.entries(type.offsets))
        if (header.has(field)) expect(offset, `${type.structName}.${field}`).toBe(header.get(field));
      // An older header lacks our last fields and is smaller; a newer one may have grown behind them.
      const size = header.get('') ?? 0;
      const hasAll = header.size === Object.keys(type.offsets).length + 1;
      if (hasAll) expect(size, `sizeof ${type.structName}`).toBeGreaterThanOrEqual(type.size);
      else expect(size, `sizeof ${type.structName}`).toBeLessThanOrEqual(type.size); // tail padding where we have a pad field
    }
    expect(known).toBeGreaterThan(20);
  });

  it('agree on the request numbers', () => {
    for (const [name, value] of measured.get('ioctl') ?? []) expect(IOCTL_NUMBERS[name], name).toBe(value);
  });
});
