// A virtual sysfs: directories, attributes and links by path. Drivers put their attributes here, a caller reads and writes them as text.
// Kernel counterpart: fs/sysfs over kernfs. Only the file calls exist; permissions are those of root, except that an attribute without
// a reader (or writer) refuses to be opened for it, as the mode bits of a write-only or read-only attribute do (spec mdev section 4).
import { EACCES, EEXIST, EISDIR, ENOENT, ENOTDIR, PAGE_SIZE_4K } from '../../assembly/abi.ts';
import type { Task } from './task.ts';

/** One attribute. Text is bytes: one character per byte (ASCII in practice), new lines included. */
export interface SysfsAttribute {
  /** The whole content, or -errno. Absent: write-only. */
  show?(task: Task): string | number;
  /** @param text at most a page, never empty. @returns bytes taken (usually all) or -errno. Absent: read-only. */
  store?(task: Task, text: string): number;
}

interface Directory {
  readonly kind: 'directory';
  readonly entries: Map<string, Node>;
}
type Node = Directory | { readonly kind: 'link'; readonly target: string } | ({ readonly kind: 'file' } & SysfsFile);
interface SysfsFile {
  readonly attribute: SysfsAttribute;
}

const MAX_LINKS = 40;
const encoder = new TextEncoder();
const split = (path: string): string[] => path.split('/').filter((part) => part !== '');

export class Sysfs {
  readonly #root: Directory = { kind: 'directory', entries: new Map() };

  /** Makes a directory and those above it. @returns 0, or -EEXIST when the name is taken, -ENOTDIR when something above is no directory. */
  mkdir(path: string): number {
    return this.#insert(path, { kind: 'directory', entries: new Map() });
  }

  /** Adds an attribute. @returns 0 or -errno as mkdir. */
  attribute(path: string, attribute: SysfsAttribute): number {
    return this.#insert(path, { kind: 'file', attribute });
  }

  /** Adds a link to an absolute path, which need not exist yet. @returns 0 or -errno as mkdir. */
  link(path: string, target: string): number {
    return this.#insert(path, { kind: 'link', target });
  }

  /** Removes an entry with everything below it; links are not followed. True when it existed. */
  remove(path: string): boolean {
    const parts = split(path);
    const name = parts.pop();
    const above = this.#walk(parts);
    return name !== undefined && typeof above !== 'number' && above.kind === 'directory' && above.entries.delete(name);
  }

  exists(path: string): boolean {
    return typeof this.#walk(split(path)) !== 'number';
  }

  /** Names in a directory, sorted; null when there is no such directory. */
  list(path: string): string[] | null {
    const node = this.#walk(split(path));
    return typeof node !== 'number' && node.kind === 'directory' ? [...node.entries.keys()].sort() : null;
  }

  /** open + read + close. @returns the content, or -ENOENT, -ENOTDIR, -EISDIR, -EACCES (write-only), or the attribute's own -errno. */
  read(task: Task, path: string): string | number {
    const node = this.#open(task, path);
    if (typeof node === 'number') return node;
    if (node.attribute.show === undefined) return task.fail(EACCES, `${path} is write-only`);
    return node.attribute.show(task);
  }

  /**
   * open + write + close. A write of nothing gives 0 and reaches nobody; more than a page is cut there, as kernfs does.
   * @returns bytes written, or -ENOENT, -ENOTDIR, -EISDIR, -EACCES (read-only), or the attribute's own -errno.
   */
  write(task: Task, path: string, text: string): number {
    const node = this.#open(task, path);
    if (typeof node === 'number') return node;
    const { attribute } = node;
    if (attribute.store === undefined) return task.fail(EACCES, `${path} is read-only`);
    const bytes = encoder.encode(text).subarray(0, PAGE_SIZE_4K);
    return bytes.length === 0 ? 0 : attribute.store(task, String.fromCharCode(...bytes));
  }

  #open(task: Task, path: string): SysfsFile | number {
    const node = this.#walk(split(path));
    if (typeof node === 'number') return task.fail(-node, `there is no ${path}`);
    if (node.kind !== 'file') return task.fail(EISDIR, `${path} is a directory`);
    return node;
  }

  #insert(path: string, node: Node): number {
    const parts = split(path);
    const name = parts.pop();
    if (name === undefined) return -EEXIST;
    let above = this.#root;
    for (const part of parts) {
      let next = above.entries.get(part);
      if (next?.kind === 'link') {
        const target = this.#walk(split(next.target));
        next = typeof target === 'number' ? undefined : target;
      }
      if (next === undefined) {
        next = { kind: 'directory', entries: new Map() };
        above.entries.set(part, next);
      }
      if (next.kind !== 'directory') return -ENOTDIR;
      above = next;
    }
    if (above.entries.has(name)) return -EEXIST;
    above.entries.set(name, node);
    return 0;
  }

  /** Follows links, but only so many: two that point at each other are ENOENT here. */
  #walk(parts: readonly string[], links = 0): Exclude<Node, { kind: 'link' }> | number {
    let node: Exclude<Node, { kind: 'link' }> = this.#root;
    for (const part of parts) {
      if (node.kind !== 'directory') return -ENOTDIR;
      const next = node.entries.get(part);
      if (next === undefined) return -ENOENT;
      if (next.kind !== 'link') node = next;
      else {
        const target: Exclude<Node, { kind: 'link' }> | number =
          links < MAX_LINKS ? this.#walk(split(next.target), links + 1) : -ENOENT;
        if (typeof target === 'number') return target;
        node = target;
      }
    }
    return node;
  }
}
