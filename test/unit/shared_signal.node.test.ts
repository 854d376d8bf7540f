// An eventfd that another thread waits for. Node only: a page has shared memory when it is isolated from other origins, which the browser suites are not.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { createVfio } from '../../host/inline.ts';
import { shareEventfd, waitForSignal } from '../../host/vfio/shared_signal.ts';

const setup = async () => {
  const vfio = await createVfio({ machine: { devices: [] } });
  const eventfd = vfio.eventfdOf(vfio.eventfd());
  return { eventfd, ...shareEventfd(eventfd) };
};

it('counts signals in shared memory until the sharing ends; waiting ends without one after its timeout', async () => {
  const { eventfd, word, stop } = await setup();
  expect(waitForSignal(word, 0, 1)).toBe(0);
  eventfd.signal();
  expect(waitForSignal(word)).toBe(1);
  eventfd.signal(5n);
  expect(waitForSignal(word, 1)).toBe(2);
  stop();
  eventfd.signal();
  expect(waitForSignal(word, 2, 1)).toBe(2);
});

it('wakes a thread that sleeps on it', async () => {
  const { eventfd, word } = await setup();
  const sleeper = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     parentPort.postMessage('sleeping');
     Atomics.wait(workerData, 0, 0, 60000);
     parentPort.postMessage(Atomics.load(workerData, 0));`,
    { eval: true, workerData: word },
  );
  expect(await once(sleeper, 'message')).toEqual(['sleeping']);
  eventfd.signal();
  expect(await once(sleeper, 'message')).toEqual([1]);
  await sleeper.terminate();
});
