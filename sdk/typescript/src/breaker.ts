/** Five failures within ten seconds stop the asking for five seconds; then one may try. */
export class Breaker {
  #failures: number[] = [];
  #openUntil = 0;
  #probing = false;
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Whether the server may be asked now. Who is told yes must call succeeded, failed or dropped. */
  allows(): boolean {
    if (this.#openUntil === 0) return true;
    if (this.#probing || this.#now() < this.#openUntil) return false;
    this.#probing = true;
    return true;
  }

  /** Whether the server is known to be away. */
  get open(): boolean {
    return this.#openUntil !== 0;
  }

  succeeded(): void {
    this.#failures = [];
    this.#openUntil = 0;
    this.#probing = false;
  }

  failed(): void {
    const now = this.#now();
    this.#failures = [...this.#failures.filter((t) => now - t < 10_000), now];
    if (this.#probing || this.#failures.length >= 5) {
      this.#openUntil = now + 5_000;
      this.#failures = [];
    }
    this.#probing = false;
  }

  /** The asking ended without saying anything about the server: the caller gave up. */
  dropped(): void {
    this.#probing = false;
  }
}
