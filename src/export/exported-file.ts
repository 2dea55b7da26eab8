/** One file of an export that is a folder. */
export interface ExportedFile {
  /** Relative to the folder, with `/`. */
  readonly path: string;
  readonly bytes: Uint8Array;
}
