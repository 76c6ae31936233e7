/** Properties that make no sense. Names the property, and what is allowed. */
export class Refused extends Error {
  constructor(property: string, why: string) {
    super(`${property} ${why}`);
    this.name = 'Refused';
  }
}
