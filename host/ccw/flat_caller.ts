// The caller's side of the 2016 request as one object: owns the program buffer and the lists in a process's memory, flattens, calls, and gives back an
// IRB whose CPA is the guest's. Stage one is flatten.ts.
import type { VfioProcess } from '../process.ts';
import { CCW_BUFFER_SIZE, VFIO_DEVICE_CCW_CMD_REQUEST, VfioCcwCmdRequest } from '../uapi/ccw_request.ts';
import { CCW_LISTS_SIZE, type FlatProgram, flattenProgram, type GuestStorage } from './flatten.ts';

/** A piece of guest storage in the caller's address space. */
export interface GuestRam {
  /** Guest-physical address of its first byte. */
  readonly address: bigint;
  readonly vaddr: bigint;
  /** Bytes. */
  readonly size: bigint;
}

const SCSW_START = Uint8Array.of(0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0);
const IRB_CPA = 4;

/** Guest storage made of pieces of a process's memory. Pieces must not overlap; neighbours need not be neighbours in the process. */
export function storageOf(process: VfioProcess, ram: readonly GuestRam[]): GuestStorage {
  const vaddr = (address: bigint): bigint | null => {
    const piece = ram.find((candidate) => address >= candidate.address && address < candidate.address + candidate.size);
    return piece === undefined ? null : piece.vaddr + (address - piece.address);
  };
  return {
    vaddr,
    read(address, into) {
      for (let i = 0; i < into.length; i++) {
        const at = vaddr(address + BigInt(i));
        if (at === null || !process.task.mm.read(at, into.subarray(i, i + 1))) return false;
      }
      return true;
    },
  };
}

/**
 * Makes 2016 requests for a guest: owns the program buffer and the lists, flattens each program into them, and turns the address in the IRB back. One
 * request at a time; `close` when done.
 */
export class FlatCaller {
  readonly #process: VfioProcess;
  readonly #fd: number;
  readonly #storage: GuestStorage;
  readonly #address: bigint;

  /**
   * @param fd the device's descriptor. @param ram where the guest's storage is, as pieces or as a lookup of the caller's own.
   * @throws VfioError ENOMEM no room for the buffer and the lists.
   */
  constructor(process: VfioProcess, fd: number, ram: readonly GuestRam[] | GuestStorage) {
    this.#process = process;
    this.#fd = fd;
    this.#storage = 'vaddr' in ram ? ram : storageOf(process, ram);
    this.#address = process.mmap(CCW_BUFFER_SIZE + CCW_LISTS_SIZE);
  }

  /** Gives the memory back. */
  close(): void {
    this.#process.munmap(this.#address, CCW_BUFFER_SIZE + CCW_LISTS_SIZE);
  }

  /**
   * Runs the program of a guest's ORB (12 bytes). @returns the IRB, 96 bytes, big-endian, its CPA a guest address.
   * @throws VfioError what `flattenProgram` refuses, or the request's: EAGAIN the device does not end within the call, use `requestAsync`.
   */
  request(orb: Uint8Array): Uint8Array {
    const { program, argument } = this.#prepare(orb);
    this.#process.ioctl(this.#fd, VFIO_DEVICE_CCW_CMD_REQUEST, argument);
    return irbOf(program, argument);
  }

  /** The same for a device that takes its time. One request at a time. */
  async requestAsync(orb: Uint8Array): Promise<Uint8Array> {
    const { program, argument } = this.#prepare(orb);
    await this.#process.ioctlAsync(this.#fd, VFIO_DEVICE_CCW_CMD_REQUEST, argument);
    return irbOf(program, argument);
  }

  #prepare(orb: Uint8Array): { program: FlatProgram; argument: InstanceType<typeof VfioCcwCmdRequest> } {
    const view = this.#process.view(this.#address, CCW_BUFFER_SIZE + CCW_LISTS_SIZE);
    const program = flattenProgram(this.#storage, orb, {
      buffer: view.subarray(0, CCW_BUFFER_SIZE),
      lists: view.subarray(CCW_BUFFER_SIZE),
      listsAddress: this.#address + BigInt(CCW_BUFFER_SIZE),
    });
    const argument = new VfioCcwCmdRequest({
      orb_area: orb.slice(0, 12),
      scsw_area: SCSW_START,
      ccwchain_nr: program.count,
      u_ccwchain: this.#address,
    });
    return { program, argument };
  }
}

function irbOf(program: FlatProgram, argument: InstanceType<typeof VfioCcwCmdRequest>): Uint8Array {
  const irb = argument.irb_area.slice();
  const view = new DataView(irb.buffer);
  view.setUint32(IRB_CPA, program.guestCpa(view.getUint32(IRB_CPA)));
  return irb;
}
