/** A stack of things to dispose, last first: what DisposableStack will be once every supported Node has it. */
export class Scope {
  readonly #owned: Disposable[] = [];

  /** Takes ownership of `resource` and returns it. */
  use<T extends Disposable>(resource: T): T {
    this.#owned.push(resource);
    return resource;
  }

  [Symbol.dispose](): void {
    for (let resource = this.#owned.pop(); resource; resource = this.#owned.pop()) resource[Symbol.dispose]();
  }
}
