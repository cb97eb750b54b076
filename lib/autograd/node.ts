/**
 * The tape. A node is one recorded op: what backward needs, and edges to where its inputs came from. Nodes are counted by
 * the tensors and nodes that hold them, so that a graph nobody can reach any more frees what it saved at once.
 */
import type { Shape } from "../tensor/shape.js";
import type { GraphNode, Tensor } from "../tensor/tensor.js";
import { AutogradError } from "../util/errors.js";

/** Where the gradient of one input goes: on to the node that made it, or into a leaf tensor, or nowhere. */
export type Edge = Node | Tensor | null;

/**
 * Gradients of the inputs, in order; null where none is needed.
 * @param waiting what has come to the input that the node folds, from elsewhere; the rule's gradient of it takes this along
 */
export type BackwardRule = (dy: Tensor, waiting: Tensor | null) => readonly (Tensor | null)[];

let created = 0;

export class Node implements GraphNode {
  readonly op: string;
  /** Creation order: a node is younger than all nodes it depends on. */
  readonly sequence = created++;
  readonly edges: readonly Edge[];
  /** Gradients of broadcast inputs are summed down to the inputs' shapes. */
  readonly inputs: readonly { readonly shape: Shape }[];
  /** The input whose other gradients the rule adds on its way, instead of a pass over them of its own. */
  readonly folds: number | undefined;
  #rule: BackwardRule | null;
  #saved: readonly Tensor[];
  #refs = 0;

  /** @param saved tensors owned by the node, freed with it or after its backward */
  constructor(
    op: string,
    edges: readonly Edge[],
    inputs: readonly { readonly shape: Shape }[],
    saved: readonly Tensor[],
    rule: BackwardRule,
    folds?: number,
  ) {
    this.op = op;
    this.edges = edges;
    this.inputs = inputs;
    this.#saved = saved;
    this.#rule = rule;
    this.folds = folds;
    for (const edge of edges) if (edge instanceof Node) edge.retain();
  }

  get rule(): BackwardRule {
    if (this.#rule) return this.#rule;
    throw new AutogradError(
      "backward",
      `what ${this.op} saved was freed by an earlier backward`,
      "one backward per forward, or backward({retainGraph: true})",
    );
  }

  retain(): void {
    this.#refs++;
  }

  release(): void {
    if (--this.#refs > 0) return;
    // A stack, not recursion: graphs are deep.
    const dead: Node[] = [this];
    for (let node = dead.pop(); node; node = dead.pop()) {
      node.freeSaved();
      for (const edge of node.edges) if (edge instanceof Node && --edge.#refs === 0) dead.push(edge);
    }
  }

  freeSaved(): void {
    for (const tensor of this.#saved) tensor.dispose();
    this.#saved = [];
    this.#rule = null;
  }
}

export function nodeOf(t: Tensor): Node | null {
  return t.node as Node | null;
}
