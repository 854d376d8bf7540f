// Random programs of containers, groups, devices, device nodes and iommufds against the rules of spec vfio-core sections 2 to 4 and 10, written once
// more in the plainest way: who holds whom, who owns a group's DMA, what each call must answer.
import { describe, expect, it } from 'vitest';
import { EBADF, EBADFD, EBUSY, EINVAL, ENODEV, ENOENT, ENOTTY, EPERM } from '../../assembly/abi.ts';
import { createVfio } from '../../host/inline.ts';
import type { VfioInstance } from '../../host/source.ts';
import * as ioctl from '../../host/uapi/ioctl.ts';
import * as structs from '../../host/uapi/structs.ts';
import { Random, runs, seed } from '../support/counts.ts';

interface Device {
  readonly name: string;
  readonly node: number;
  readonly group: Group;
  opens: number;
  iommufd: Iommufd | null;
  /** The address space that it is attached to. */
  ioas: number;
}
interface Group {
  readonly number: number;
  readonly physical: boolean;
  readonly devices: Device[];
  file: File | null;
  home: Container | Iommufd | null;
  owner: object | null;
  claims: number;
  bound: number;
}
interface Container {
  readonly kind: 'container';
  readonly groups: Set<Group>;
  version: number;
}
interface Iommufd {
  readonly kind: 'iommufd';
  /** Address spaces. */
  readonly ioas: Set<number>;
  compat: number;
}
/** An open file and how many hold it: descriptors, and what was opened through it. */
interface File {
  refs: number;
  readonly what:
    | Container
    | Iommufd
    | { kind: 'group'; group: Group }
    | { kind: 'device'; device: Device; node: boolean; granted: boolean };
}

/** name, node and group of the default machine's devices that take part. */
const DEVICES: ReadonlyArray<readonly [string, number, number]> = [
  ['0000:00:01.0', 0, 1],
  ['0000:00:02.0', 1, 2],
  ['0000:00:02.1', 2, 2],
  ['22222222-2222-4222-8222-222222222222', 6, 6],
];

class Walk {
  readonly #vfio: VfioInstance;
  readonly #random: Random;
  readonly #groups: Group[] = [1, 2, 6].map((number) => ({
    number,
    physical: number !== 6,
    devices: [],
    file: null,
    home: null,
    owner: null,
    claims: 0,
    bound: 0,
  }));
  readonly #devices: Device[] = [];
  readonly #files = new Map<number, File>();
  /** Mappings of device regions by address. */
  readonly #mappings = new Map<bigint, File>();
  readonly #log: string[] = [];
  /** Outcomes seen: call and errno. */
  readonly seen = new Set<string>();
  /** What a step may be; what is there twice is drawn twice as often. */
  readonly #calls: ReadonlyArray<() => void> = [
    () => this.#open('/dev/vfio/vfio', { kind: 'container', groups: new Set(), version: 0 }),
    () => this.#open('/dev/iommu', { kind: 'iommufd', ioas: new Set(), compat: 0 }),
    () => this.#openGroup(this.#random.pick(this.#groups)),
    () => this.#openNode(this.#random.pick(this.#devices)),
    ...[() => this.#close(), () => this.#close()],
    ...[() => this.#setContainer(), () => this.#setContainer()],
    () => this.#unsetContainer(),
    () => this.#setIommu(),
    ...[() => this.#getDeviceFd(), () => this.#getDeviceFd()],
    ...[() => this.#bind(), () => this.#bind()],
    ...[() => this.#attach(), () => this.#attach()],
    () => this.#detach(),
    () => this.#alloc(),
    () => this.#destroy(),
    ...[() => this.#mmap(), () => this.#munmap()],
    () => this.#ask(),
  ];

  constructor(vfio: VfioInstance, random: Random) {
    this.#vfio = vfio;
    this.#random = random;
    for (const [name, node, number] of DEVICES) {
      const group = this.#groups.find((one) => one.number === number) as Group;
      const device: Device = { name, node, group, opens: 0, iommufd: null, ioas: 0 };
      group.devices.push(device);
      this.#devices.push(device);
    }
  }

  step(): void {
    if (this.#files.size > 14) this.#close();
    else this.#random.pick(this.#calls)();
  }

  /** Everything closed in random order: nothing is left. */
  end(): void {
    while (this.#files.size > 0 || this.#mappings.size > 0) this.#random.int(2) === 0 ? this.#close() : this.#munmap();
    for (const group of this.#groups) expect([group.file, group.home, group.owner]).toEqual([null, null, null]);
    for (const { name } of this.#devices) {
      const device = this.#vfio.kernel.device(name);
      expect([device?.openCount, device?.files, device?.dma, device?.iommufd, device?.group.containerUsers]).toEqual([
        0,
        0,
        null,
        null,
        0,
      ]);
    }
    expect(this.#vfio.core.liveBytes).toBe(0);
  }

  #is(got: number, wanted: number, what: string): void {
    this.#log.push(`${what} = ${got}`);
    this.seen.add(`${what.split(' ')[0]} ${Math.min(wanted, 0)}`);
    if (got !== wanted) throw new Error(`${this.#log.slice(-40).join('\n')}\nthe rules say ${wanted}`);
  }
  /** A descriptor of this kind most of the time, any one or none otherwise. */
  #fd(kind: File['what']['kind']): number {
    const fit = [...this.#files].filter(([, file]) => file.what.kind === kind).map(([fd]) => fd);
    if (fit.length > 0 && this.#random.int(8) > 0) return this.#random.pick(fit);
    return this.#random.int(3) === 0 || this.#files.size === 0 ? 999 : this.#random.pick([...this.#files.keys()]);
  }
  /** The same, but really of the kind. */
  #of<K extends File['what']['kind']>(kind: K): { fd: number; file: File; what: File['what'] & { kind: K } } | null {
    const fit = [...this.#files].filter(([, file]) => file.what.kind === kind);
    if (fit.length === 0) return null;
    const [fd, file] = this.#random.pick(fit);
    return { fd, file, what: file.what as File['what'] & { kind: K } };
  }
  #ioctl(fd: number, request: number, arg?: Parameters<VfioInstance['ioctlRaw']>[2]): number {
    return this.#vfio.ioctlRaw(fd, request, arg);
  }

  #open(path: string, what: File['what']): void {
    const fd = this.#vfio.openRaw(path);
    this.#is(Math.sign(fd), 1, `open ${path}`);
    this.#files.set(fd, { refs: 1, what });
  }
  #openNode(device: Device): void {
    this.#open(`/dev/vfio/devices/vfio${device.node}`, { kind: 'device', device, node: true, granted: false });
  }
  #openGroup(group: Group): void {
    const fd = this.#vfio.openRaw(`/dev/vfio/${group.number}`);
    const wanted = group.bound > 0 || group.file !== null ? -EBUSY : 1;
    this.#is(Math.min(fd, 1), wanted, `open group ${group.number}`);
    if (fd < 0) return;
    group.file = { refs: 1, what: { kind: 'group', group } };
    this.#files.set(fd, group.file);
  }
  #close(): void {
    const fd = [...this.#files.keys()].at(this.#random.int(this.#files.size)) ?? 999;
    const file = this.#files.get(fd);
    this.#is(this.#vfio.closeRaw(fd), file === undefined ? -EBADF : 0, `close ${fd}`);
    this.#files.delete(fd);
    if (file !== undefined) this.#put(file);
  }
  #put(file: File): void {
    if (--file.refs > 0) return;
    const { what } = file;
    if (what.kind === 'group') {
      this.#leave(what.group);
      what.group.file = null;
    } else if (what.kind === 'device' && what.granted) {
      const { device, node } = what;
      if (--device.opens === 0 && device.iommufd !== null) this.#unbind(device);
      if (node) device.group.bound--;
      else this.#put(device.group.file as File);
    }
  }
  #leave(group: Group): void {
    if (group.home?.kind === 'container') {
      this.#release(group, group);
      group.home.groups.delete(group);
      if (group.home.groups.size === 0) group.home.version = 0;
    }
    group.home = null;
  }
  #claim(group: Group, owner: object): boolean {
    if (!group.physical) return true;
    if (group.owner !== null && group.owner !== owner) return false;
    group.owner = owner;
    group.claims++;
    return true;
  }
  #release(group: Group, owner: object): void {
    if (group.owner === owner && --group.claims === 0) group.owner = null;
  }
  #unbind(device: Device): void {
    this.#release(device.group, device.iommufd as Iommufd);
    device.iommufd = null;
    device.ioas = 0;
  }

  #setContainer(): void {
    const at = this.#of('group');
    if (at === null) return;
    const { group } = at.what;
    const target = this.#fd(this.#random.int(3) === 0 ? 'iommufd' : 'container');
    const what = this.#files.get(target)?.what;
    let wanted = 0;
    if (what === undefined) wanted = -EBADF;
    else if (group.home !== null) wanted = -EINVAL;
    else if (what.kind === 'container') {
      if (this.#claim(group, group)) {
        what.groups.add(group);
        group.home = what;
      } else wanted = -EPERM;
    } else if (what.kind === 'iommufd') group.home = what;
    else wanted = -EBADFD;
    const set = new structs.S32({ value: target });
    this.#is(this.#ioctl(at.fd, ioctl.VFIO_GROUP_SET_CONTAINER, set), wanted, `set ${group.number} to ${what?.kind}`);
    if (wanted === 0 && what?.kind === 'iommufd' && what.compat === 0) {
      const get = new structs.IommuVfioIoas();
      this.#is(this.#ioctl(target, ioctl.IOMMU_VFIO_IOAS, get), 0, 'address space of container calls');
      what.compat = get.ioas_id;
      what.ioas.add(get.ioas_id);
    }
  }
  #unsetContainer(): void {
    const at = this.#of('group');
    if (at === null) return;
    const { group } = at.what;
    const busy =
      group.home?.kind === 'container' && group.devices.some(({ opens, iommufd }) => opens > 0 && iommufd === null);
    const wanted = group.home === null ? -EINVAL : busy ? -EBUSY : 0;
    this.#is(this.#ioctl(at.fd, ioctl.VFIO_GROUP_UNSET_CONTAINER), wanted, `unset ${group.number}`);
    if (wanted === 0) this.#leave(group);
  }
  #setIommu(): void {
    const at = this.#of(this.#random.int(4) === 0 ? 'iommufd' : 'container');
    if (at === null) return;
    const { what } = at;
    const type = this.#random.pick([1, 3, 3, 3, 6, 9]);
    const type1 = type === 1 || type === 3;
    let wanted: number;
    if (what.kind === 'iommufd') wanted = !type1 ? -EINVAL : what.compat === 0 ? -ENODEV : 0;
    else if (what.groups.size === 0 || what.version !== 0) wanted = -EINVAL;
    else wanted = type1 ? 0 : type === 9 ? -EINVAL : -ENODEV;
    this.#is(this.#ioctl(at.fd, ioctl.VFIO_SET_IOMMU, type), wanted, `set iommu ${type} of ${what.kind}`);
    if (wanted === 0 && what.kind === 'container') what.version = type;
  }
  #getDeviceFd(): void {
    const at = this.#of('group');
    if (at === null) return;
    const { group } = at.what;
    const device = this.#random.int(6) === 0 ? this.#random.pick(this.#devices) : this.#random.pick(group.devices);
    const { home } = group;
    let wanted = 1;
    if (device.group !== group) wanted = -ENODEV;
    else if (home === null) wanted = -EINVAL;
    else if (device.opens === 0) {
      if (home.kind === 'container') wanted = home.version === 0 ? -EINVAL : 1;
      else if (home.compat === 0) wanted = -ENODEV;
      else if (this.#claim(group, home)) {
        device.iommufd = home;
        device.ioas = home.compat;
      } else wanted = -EPERM;
    }
    const fd = this.#ioctl(at.fd, ioctl.VFIO_GROUP_GET_DEVICE_FD, device.name);
    this.#is(Math.min(fd, 1), wanted, `device ${device.name} of group ${group.number}`);
    if (fd < 0) return;
    device.opens++;
    at.file.refs++;
    this.#files.set(fd, { refs: 1, what: { kind: 'device', device, node: false, granted: true } });
  }
  #bind(): void {
    const at = this.#of('device');
    if (at === null) return;
    const { what } = at;
    const { device, node } = what;
    const { group } = device;
    const target = this.#fd('iommufd');
    const iommufd = this.#files.get(target)?.what;
    let wanted = 0;
    if (!node) wanted = -EINVAL;
    else if (group.file !== null) wanted = -EBUSY;
    else if (what.granted) wanted = -EINVAL;
    else if (iommufd === undefined) wanted = -EBADF;
    else if (iommufd.kind !== 'iommufd') wanted = -EBADFD;
    else if (device.opens > 0) wanted = -EINVAL;
    else if (this.#claim(group, iommufd)) {
      device.iommufd = iommufd;
      device.opens = 1;
      group.bound++;
      what.granted = true;
    } else wanted = -EPERM;
    const bind = new structs.VfioDeviceBindIommufd({ iommufd: target });
    this.#is(this.#ioctl(at.fd, ioctl.VFIO_DEVICE_BIND_IOMMUFD, bind), wanted, `bind ${device.name}`);
  }
  /** What a call on a node answers before it looks at its argument; 0: it goes on. */
  #notHere(what: File['what'] & { kind: 'device' }): number {
    return !what.granted ? -EINVAL : what.node ? 0 : -ENOTTY;
  }
  #attach(): void {
    const at = this.#of('device');
    if (at === null) return;
    const { device } = at.what;
    const known = [...(device.iommufd?.ioas ?? [])];
    const id = known.length > 0 && this.#random.int(6) > 0 ? this.#random.pick(known) : 7777;
    // Functions of one group have one translation: a second one joins the first, a change moves both.
    const others = device.group.devices.filter((other) => other !== device && other.ioas !== 0);
    const elsewhere = device.ioas === 0 && others.some((other) => other.ioas !== id);
    const wanted = this.#notHere(at.what) || (id === 7777 ? -ENOENT : elsewhere ? -EINVAL : 0);
    const attach = new structs.VfioDeviceAttachIommufdPt({ pt_id: id });
    this.#is(this.#ioctl(at.fd, ioctl.VFIO_DEVICE_ATTACH_IOMMUFD_PT, attach), wanted, `attach ${device.name} to ${id}`);
    if (wanted !== 0) return;
    for (const moved of device.ioas === 0 ? [] : others) moved.ioas = id;
    device.ioas = id;
  }
  #detach(): void {
    const at = this.#of('device');
    if (at === null) return;
    const wanted = this.#notHere(at.what);
    const detach = new structs.VfioDeviceDetachIommufdPt();
    this.#is(this.#ioctl(at.fd, ioctl.VFIO_DEVICE_DETACH_IOMMUFD_PT, detach), wanted, `detach ${at.what.device.name}`);
    if (wanted === 0) at.what.device.ioas = 0;
  }
  /** A mapping of a region holds the device's file. */
  #mmap(): void {
    const at = this.#of('device');
    if (at === null || this.#mappings.size > 3) return;
    const mappable = at.what.granted && at.what.device.name === '0000:00:01.0';
    if (at.what.granted && at.what.device.group.physical && !mappable) return;
    const address = this.#vfio.mmapRaw(4096, { fd: at.fd, offset: 0 });
    this.#is(address < 0n ? Number(address) : 0, mappable ? 0 : -EINVAL, `mmap ${at.what.device.name}`);
    if (address < 0n) return;
    at.file.refs++;
    this.#mappings.set(address, at.file);
  }
  #munmap(): void {
    if (this.#mappings.size === 0) return;
    const [address, file] = this.#random.pick([...this.#mappings]);
    this.#is(this.#vfio.munmapRaw(address, 4096), 0, 'munmap');
    this.#mappings.delete(address);
    this.#put(file);
  }
  #alloc(): void {
    const at = this.#of('iommufd');
    if (at === null) return;
    const alloc = new structs.IommuIoasAlloc();
    this.#is(this.#ioctl(at.fd, ioctl.IOMMU_IOAS_ALLOC, alloc), 0, 'alloc');
    expect(at.what.ioas.has(alloc.out_ioas_id)).toBe(false);
    at.what.ioas.add(alloc.out_ioas_id);
  }
  #destroy(): void {
    const at = this.#of('iommufd');
    if (at === null) return;
    const { what } = at;
    const id = what.ioas.size > 0 ? this.#random.pick([...what.ioas]) : 7777;
    const used = this.#devices.some(({ iommufd, ioas }) => iommufd === what && ioas === id);
    const wanted = id === 7777 ? -ENOENT : used ? -EBUSY : 0;
    this.#is(this.#ioctl(at.fd, ioctl.IOMMU_DESTROY, new structs.IommuDestroy({ id })), wanted, `destroy ${id}`);
    if (wanted !== 0) return;
    what.ioas.delete(id);
    if (what.compat === id) what.compat = 0;
  }
  /** Calls that change nothing. */
  #ask(): void {
    const group = this.#of('group');
    if (group !== null) {
      const status = new structs.VfioGroupStatus();
      this.#is(this.#ioctl(group.fd, ioctl.VFIO_GROUP_GET_STATUS, status), 0, 'status');
      const { home, owner } = group.what.group;
      this.#is(status.flags, home !== null ? 3 : owner !== null ? 0 : 1, `flags of group ${group.what.group.number}`);
    }
    const device = this.#of('device');
    if (device !== null) {
      const info = new structs.VfioDeviceInfo();
      const wanted = device.what.granted ? 0 : -EINVAL;
      this.#is(this.#ioctl(device.fd, ioctl.VFIO_DEVICE_GET_INFO, info), wanted, `info of ${device.what.device.name}`);
    }
    const container = this.#of('container');
    if (container === null) return;
    const { groups, version } = container.what;
    const has = (physical: boolean) => [...groups].some((one) => one.physical === physical);
    const known = version !== 0;
    const answers = { 1: 1, 3: 1, 4: Number(known && !has(true)), 6: 0, 8: 0, 9: 1, 10: Number(known && !has(false)) };
    for (const [id, wanted] of Object.entries(answers))
      this.#is(this.#ioctl(container.fd, ioctl.VFIO_CHECK_EXTENSION, Number(id)), wanted, `extension ${id}`);
    const info = new structs.VfioIommuType1Info();
    this.#is(this.#ioctl(container.fd, ioctl.VFIO_IOMMU_GET_INFO, info), known ? 0 : -EINVAL, 'iommu info');
  }
}

/** Refusals that a walk seldom meets: DMA with another owner, a unit that is elsewhere, what is in use. Walks go on until all were met. */
const RARE = ['bind -1', 'device -1', 'set -1', 'attach -22', 'unset -16', 'destroy -16', 'open -16'];

describe('objects in any order', () => {
  it('answer by the rules, and nothing is left when all is closed', async () => {
    const seen = new Set<string>();
    const missing = () => RARE.filter((outcome) => !seen.has(outcome));
    for (let run = 0; run < runs(40) || (run < runs(400) && missing().length > 0); run++) {
      const walk = new Walk(await createVfio(), new Random(seed + run));
      for (let i = 0; i < 600; i++) walk.step();
      walk.end();
      for (const outcome of walk.seen) seen.add(outcome);
    }
    expect(missing()).toEqual([]);
  });
});
