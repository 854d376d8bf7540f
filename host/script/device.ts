// The fields of a `device` operation as an action reads them.
import type { ActionFields } from '../devices/model.ts';
import { bytesOf, hexInteger, integer, type JsonObject, referenceName, type Saved, ScriptError } from './values.ts';

export class ActionReader implements ActionFields {
  readonly fields: JsonObject;
  readonly #saved: ReadonlyMap<string, Saved>;

  constructor(fields: JsonObject, saved: ReadonlyMap<string, Saved> = new Map()) {
    this.fields = fields;
    this.#saved = saved;
  }

  /** The fields with their references resolved. */
  plain(): JsonObject {
    return Object.fromEntries(
      Object.entries(this.fields).map(([name, value]) => [
        name,
        referenceName(value) === null ? value : hexInteger(this.integer(name)),
      ]),
    );
  }

  has(name: string): boolean {
    return name in this.fields;
  }

  integer(name: string, fallback?: bigint): bigint {
    if (!this.has(name) && fallback !== undefined) return fallback;
    return integer(this.#required(name), this.#saved, name);
  }

  number(name: string, fallback?: number): number {
    return Number(this.integer(name, fallback === undefined ? undefined : BigInt(fallback)));
  }

  bytes(name: string): Uint8Array {
    return bytesOf(this.#required(name), name);
  }

  text(name: string): string {
    const value = this.#required(name);
    if (typeof value !== 'string') throw new ScriptError(`${name}: a text is needed, not ${JSON.stringify(value)}`);
    return value;
  }

  #required(name: string) {
    const value = this.fields[name];
    if (value === undefined) throw new ScriptError(`the action needs "${name}"`);
    return value;
  }
}
