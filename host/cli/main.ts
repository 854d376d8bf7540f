#!/usr/bin/env node
// The command `vfio-wasm`. One file per command; this one names them and turns errors into exit statuses (0 done, 1 a check
// failed, 2 wrong input or usage).
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { addCcwReplayCommand } from './ccw_replay.ts';
import { addCcwScenarioCommand } from './ccw_scenario.ts';
import { addCcwTranslateCommand } from './ccw_translate.ts';
import { UsageError } from './input.ts';
import { addInsnCommand } from './insn.ts';
import { addMigrateCommand } from './migrate.ts';
import { addRunCommand } from './run.ts';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

export function buildProgram(): Command {
  const program = new Command('vfio-wasm')
    .description("Linux's VFIO subsystem in WebAssembly: run, check and replay what its users do")
    .version(version)
    .showHelpAfterError()
    .exitOverride();
  const ccw = program.command('ccw').description('channel programs: translate, replay, state-machine scenarios');
  addCcwTranslateCommand(ccw);
  addCcwScenarioCommand(ccw);
  addCcwReplayCommand(ccw);
  addRunCommand(program);
  addMigrateCommand(program);
  addInsnCommand(program);
  return program;
}

try {
  await buildProgram().parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof UsageError) {
    process.stderr.write(`vfio-wasm: ${error.message}\n`);
    process.exitCode = 2;
  } else throw error;
}
