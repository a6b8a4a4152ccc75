/** The directory of this file, in both module formats: where the package's own files are found from. */
export const here: string = __dirname;
