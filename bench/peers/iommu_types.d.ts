// bintrees ships no types; what the benches use of it.
declare module 'bintrees' {
  export class RBTree<T> {
    constructor(compare: (a: T, b: T) => number);
    insert(item: T): boolean;
    remove(item: T): boolean;
    find(item: T): T | null;
    lowerBound(item: T): { data(): T | null };
    clear(): void;
  }
}
