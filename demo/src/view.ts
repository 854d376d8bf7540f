// What a view is, and how views tell each other what changed.
import type { World } from './world.ts';

export interface View {
  readonly id: string;
  readonly title: string;
  /** It makes calls: the latest of them are shown below it. */
  readonly calls: boolean;
  /** Builds the view once, when it is first shown. */
  mount(world: World): HTMLElement;
  /** The view is shown (again) or something it shows has changed. */
  refresh?(): void;
  /** The view is hidden: animations stop. */
  hide?(): void;
}
