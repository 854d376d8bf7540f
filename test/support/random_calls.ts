// Random programs against the default machine: sensible calls and nonsense on whatever descriptors there are. Everything is drawn from one seed.
import type { VfioInstance } from '../../host/source.ts';
import { type FileKind, IOCTL_NUMBERS } from '../../host/uapi/ioctl.ts';
import type { StructBase } from '../../host/uapi/struct.ts';
import * as structs from '../../host/uapi/structs.ts';
import type { GroupFile } from '../../host/vfio/group.ts';
import type { Random } from './counts.ts';

const PATHS = [
  '/dev/vfio/vfio',
  '/dev/vfio/vfio',
  '/dev/vfio/vfio',
  '/dev/iommu',
  ...[1, 2, 3, 5, 6, 7].map((group) => `/dev/vfio/${group}`),
  ...[0, 1, 2, 3, 5, 6, 7].map((node) => `/dev/vfio/devices/vfio${node}`),
  '/dev/vfio/noiommu-1',
];
const NAMES = [
  '0000:00:01.0',
  '0000:00:02.0',
  '0000:00:02.1',
  '0001:00:00.0',
  '11111111-1111-4111-8111-111111111111',
  '22222222-2222-4222-8222-222222222222',
  '33333333-3333-4333-8333-333333333333',
  'nosuch',
];
const REQUESTS = Object.values(IOCTL_NUMBERS);
const EDGES = [
  0n,
  1n,
  0xfffn,
  0x1000n,
  0x10000n,
  0x100000n,
  0xfee00000n,
  0xffffffffn,
  1n << 40n,
  7n << 40n,
  1n << 63n,
  (1n << 64n) - 1n,
];

export class RandomCalls {
  readonly #vfio: VfioInstance;
  readonly #random: Random;
  readonly #memory: bigint[] = [];
  readonly #paths: readonly string[];

  constructor(vfio: VfioInstance, random: Random) {
    this.#vfio = vfio;
    this.#random = random;
    // Programs of one path go further than those of both.
    const mode = random.int(3);
    this.#paths = PATHS.filter((path) =>
      mode === 0 ? !path.includes('devices') : mode === 1 ? !/vfio\/\d/.test(path) : true,
    );
    this.#memory.push(vfio.mmap(0x10000), vfio.mmap(0x4000, { backed: false }), vfio.mmap(0x1000, { prot: 'r' }));
  }

  /** One call. Raw calls never throw. */
  step(): void {
    const random = this.#random;
    const vfio = this.#vfio;
    // Long programs open much and close little; from time to time everything goes.
    if (random.int(150) === 0) for (const fd of vfio.task.fds) vfio.closeRaw(fd);
    switch (random.int(24)) {
      case 0:
      case 1:
        vfio.openRaw(random.pick(this.#paths));
        return;
      case 2:
        if (random.int(3) === 0) vfio.closeRaw(this.#fd());
        return;
      case 3: {
        const size = random.pick([0, 1, 2, 4, 8, 64, 4096]);
        vfio.readRaw(this.#fd(), new Uint8Array(size), this.#offset());
        return;
      }
      case 4: {
        const data = Uint8Array.from({ length: random.pick([0, 1, 2, 4, 8, 24]) }, () => random.int(256));
        vfio.writeRaw(this.#fd(), data, this.#offset());
        return;
      }
      case 5: {
        const address = vfio.mmapRaw(
          BigInt(random.int(5)) * 4096n,
          random.int(2) === 0 ? {} : { fd: this.#fd(), offset: this.#offset() ?? 0n },
        );
        if (address > 0n) this.#memory.push(address);
        return;
      }
      case 6:
        vfio.munmapRaw(this.#address(), BigInt(random.int(3)) * 4096n);
        return;
      case 7:
        if (!vfio.task.fds.some((fd) => vfio.task.file(fd)?.kind === 'eventfd')) vfio.eventfdRaw(random.int(2));
        return;
      case 8:
        vfio.peekRaw(this.#address(), new Uint8Array(random.int(16)));
        vfio.pokeRaw(this.#address(), new Uint8Array(random.int(16)).fill(random.int(256)));
        return;
      case 9:
        vfio.ioctlRaw(
          this.#fd(),
          random.pick(REQUESTS),
          random.pick([undefined, this.#address(), random.pick(NAMES), 3]),
        );
        return;
      case 10:
        this.#useGroup();
        return;
      case 11:
        this.#useNode();
        return;
      default:
        this.#ioctl();
    }
  }

  /** What a well-behaved program does with a group, as far as it gets here. */
  #useGroup(): void {
    const vfio = this.#vfio;
    const group = vfio.openRaw(
      this.#random.pick(this.#paths.filter((path) => /vfio\/\d/.test(path)).concat('/dev/vfio/6')),
    );
    const file = vfio.task.file(group);
    if (group < 0 || file?.kind !== 'group') return;
    const container = vfio.openRaw(this.#random.int(4) === 0 ? '/dev/iommu' : '/dev/vfio/vfio');
    vfio.ioctlRaw(group, IOCTL_NUMBERS['VFIO_GROUP_SET_CONTAINER'] as number, new structs.S32({ value: container }));
    vfio.ioctlRaw(container, IOCTL_NUMBERS['VFIO_SET_IOMMU'] as number, this.#random.pick([1, 3]));
    const name = (file as GroupFile).group.devices[0]?.name ?? '';
    vfio.ioctlRaw(group, IOCTL_NUMBERS['VFIO_GROUP_GET_DEVICE_FD'] as number, name);
  }

  /** And with a device's node. */
  #useNode(): void {
    const vfio = this.#vfio;
    const node = vfio.openRaw(`/dev/vfio/devices/vfio${this.#random.int(8)}`);
    const iommufd = vfio.task.fds.find((fd) => vfio.task.file(fd)?.kind === 'iommufd') ?? vfio.openRaw('/dev/iommu');
    const alloc = new structs.IommuIoasAlloc();
    vfio.ioctlRaw(iommufd, IOCTL_NUMBERS['IOMMU_IOAS_ALLOC'] as number, alloc);
    vfio.ioctlRaw(
      node,
      IOCTL_NUMBERS['VFIO_DEVICE_BIND_IOMMUFD'] as number,
      new structs.VfioDeviceBindIommufd({ iommufd }),
    );
    const pt_id = this.#random.int(2) === 0 ? alloc.out_ioas_id : this.#random.int(4);
    vfio.ioctlRaw(
      node,
      IOCTL_NUMBERS['VFIO_DEVICE_ATTACH_IOMMUFD_PT'] as number,
      new structs.VfioDeviceAttachIommufdPt({ pt_id }),
    );
  }

  #fd(): number {
    const { fds } = this.#vfio.task;
    return fds.length === 0 || this.#random.int(20) === 0 ? this.#random.int(40) : this.#random.pick(fds);
  }
  /** Mostly a descriptor of this kind. */
  #fdOf(kind: FileKind): number {
    const fds = this.#vfio.task.fds.filter((fd) => this.#vfio.task.file(fd)?.kind === kind);
    return fds.length === 0 || this.#random.int(10) === 0 ? this.#fd() : this.#random.pick(fds);
  }
  #address(): bigint {
    return this.#random.int(8) === 0
      ? this.#random.pick(EDGES)
      : this.#random.pick(this.#memory) + BigInt(this.#random.int(2) * 4096);
  }
  #offset(): bigint | undefined {
    const random = this.#random;
    if (random.int(8) === 0) return undefined;
    const base = BigInt(random.int(10)) << (random.int(3) === 0 ? 10n : 40n);
    return base + BigInt(random.int(3) === 0 ? random.int(0x10000) : random.int(64) * 4);
  }
  #number(): bigint {
    const random = this.#random;
    return random.int(3) === 0 ? random.pick(EDGES) : BigInt(random.int(4)) * 0x1000n;
  }

  #ioctl(): void {
    const random = this.#random;
    const vfio = this.#vfio;
    const fd = this.#fdOf(random.pick(['container', 'group', 'device', 'device', 'iommufd']));
    const kind = vfio.task.file(fd)?.kind;
    const small = () => random.int(5);
    const send = (request: string, arg?: StructBase | string | number) =>
      void vfio.ioctlRaw(fd, IOCTL_NUMBERS[request] as number, arg);
    // An iommufd that stands in for a container takes these two as well.
    const map = () => {
      const [vaddr, iova, size] = [this.#address(), this.#number(), this.#number()];
      send('VFIO_IOMMU_MAP_DMA', new structs.VfioIommuType1DmaMap({ flags: small(), vaddr, iova, size }));
    };
    const unmap = () => {
      const [flags, iova, size] = [random.pick([0, 0, 2, 4]), this.#number(), this.#number()];
      send('VFIO_IOMMU_UNMAP_DMA', new structs.VfioIommuType1DmaUnmap({ flags, iova, size }));
    };
    switch (kind) {
      case 'container':
        random.pick([
          () => send('VFIO_SET_IOMMU', random.pick([1, 3, 3, 3, 9])),
          () => send('VFIO_CHECK_EXTENSION', small()),
          map,
          unmap,
          () => send('VFIO_IOMMU_GET_INFO', new structs.VfioIommuType1Info({ argsz: random.int(200) })),
          () => send('VFIO_IOMMU_DIRTY_PAGES', new structs.VfioIommuType1DirtyBitmap({ flags: small() }, 40)),
        ])();
        return;
      case 'group':
        random.pick([
          () =>
            send(
              'VFIO_GROUP_SET_CONTAINER',
              new structs.S32({ value: this.#fdOf(random.pick(['container', 'container', 'iommufd'])) }),
            ),
          () => send('VFIO_GROUP_UNSET_CONTAINER'),
          () => send('VFIO_GROUP_GET_STATUS', new structs.VfioGroupStatus()),
          () => send('VFIO_GROUP_GET_DEVICE_FD', random.pick(NAMES)),
          () => {
            const { group } = vfio.task.file(fd) as GroupFile;
            send('VFIO_GROUP_GET_DEVICE_FD', group.devices[0]?.name ?? '');
          },
        ])();
        return;
      case 'device':
        random.pick([
          () => send('VFIO_DEVICE_BIND_IOMMUFD', new structs.VfioDeviceBindIommufd({ iommufd: this.#fdOf('iommufd') })),
          () => send('VFIO_DEVICE_ATTACH_IOMMUFD_PT', new structs.VfioDeviceAttachIommufdPt({ pt_id: small() })),
          () => send('VFIO_DEVICE_DETACH_IOMMUFD_PT', new structs.VfioDeviceDetachIommufdPt()),
          () => send('VFIO_DEVICE_GET_INFO', new structs.VfioDeviceInfo({ argsz: random.int(200) })),
          () =>
            send(
              'VFIO_DEVICE_GET_REGION_INFO',
              new structs.VfioRegionInfo({ argsz: random.int(80), index: random.int(12) }),
            ),
          () => send('VFIO_DEVICE_GET_IRQ_INFO', new structs.VfioIrqInfo({ index: random.int(7) })),
          () => {
            const set = new structs.VfioIrqSet({
              argsz: 24,
              flags: random.int(64),
              index: random.int(6),
              start: random.int(2),
              count: random.int(2),
            });
            set.view.setInt32(20, this.#fdOf('eventfd'), true);
            send('VFIO_DEVICE_SET_IRQS', set);
          },
          () => send('VFIO_DEVICE_RESET'),
          () => {
            const id = random.int(14);
            const feature = new structs.VfioDeviceFeature({
              argsz: 8 + random.int(40),
              flags: id | (random.int(8) << 16),
            });
            for (let at = 8; at + 8 <= feature.bytes.length; at += 8)
              feature.view.setBigUint64(at, this.#number(), true);
            send('VFIO_DEVICE_FEATURE', feature);
          },
        ])();
        return;
      case 'iommufd':
        random.pick([
          () => send('IOMMU_IOAS_ALLOC', new structs.IommuIoasAlloc()),
          () => send('IOMMU_DESTROY', new structs.IommuDestroy({ id: small() })),
          () =>
            send(
              'IOMMU_IOAS_MAP',
              new structs.IommuIoasMap({
                flags: small(),
                ioas_id: small(),
                user_va: this.#address(),
                length: this.#number(),
                iova: this.#number(),
              }),
            ),
          () =>
            send(
              'IOMMU_IOAS_UNMAP',
              new structs.IommuIoasUnmap({ ioas_id: small(), iova: this.#number(), length: this.#number() }),
            ),
          () =>
            send(
              'IOMMU_IOAS_COPY',
              new structs.IommuIoasCopy({
                flags: small(),
                dst_ioas_id: small(),
                src_ioas_id: small(),
                length: this.#number(),
                dst_iova: this.#number(),
                src_iova: this.#number(),
              }),
            ),
          () =>
            send(
              'IOMMU_IOAS_IOVA_RANGES',
              new structs.IommuIoasIovaRanges({ ioas_id: small(), num_iovas: small(), allowed_iovas: this.#address() }),
            ),
          () =>
            send(
              'IOMMU_IOAS_ALLOW_IOVAS',
              new structs.IommuIoasAllowIovas({ ioas_id: small(), num_iovas: small(), allowed_iovas: this.#address() }),
            ),
          () => send('IOMMU_VFIO_IOAS', new structs.IommuVfioIoas({ op: small(), ioas_id: small() })),
          map,
          unmap,
        ])();
        return;
      default:
        send('VFIO_MIG_GET_PRECOPY_INFO', new structs.VfioPrecopyInfo());
    }
  }
}
