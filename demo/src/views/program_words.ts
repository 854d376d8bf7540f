// What the channel-program view says to a reader who meets one for the first time.
export const LEAD =
  'A mainframe program does not talk to its disk. It writes a list of 8-byte commands, a channel program, into memory; a separate processor, the channel, runs the list and interrupts when it is done. In a virtual machine the addresses in that list are the guest’s own and mean nothing to the real channel. So Linux’s driver copies the list, pins the pages that it names, puts real addresses in, and lets the channel run the copy.';
export const TRIES = [
  ['Start:', 'the list is copied and translated, its pages are pinned.'],
  ['Guest overwrites its program:', 'the left column turns red, the copy stays as it was checked.'],
  ['Run:', 'the channel runs the copy, command by command; at the end every page is free again.'],
] as const;
export const WORDS = [
  ['VFIO', 'the part of Linux that lets a program, such as a virtual machine monitor, drive a real device safely'],
  ['guest', 'the virtual machine whose program this is; host: the real machine'],
  ['CCW', 'channel command word: what to do, flags, how many bytes, where they lie'],
  ['CC, CD', 'flags: then the next command; then the next piece of data of the same command'],
  ['SLI, SKIP, PCI, S', 'flags: another length is no error; store nothing; interrupt on the way; wait here'],
  ['IDA, IDAW, IDAL', 'the data address names a list (IDAL) of addresses (IDAWs), one for each page'],
  ['TIC', 'transfer in channel: a jump to another CCW'],
  ['pin', 'a page that may not move or vanish while the channel may use it'],
  ['status', 'how a command ended: 0c is channel end and device end, all well'],
  ['3390, 3480, 3270', 'a disk, a tape unit, a terminal'],
] as const;
