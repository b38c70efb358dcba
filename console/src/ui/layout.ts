// Where things stand in the picture of the overview. Pure: columns of boxes in, places and curves out.

export interface Box {
  id: string;
  height: number;
}

export interface Link {
  from: string;
  to: string;
  /** Requests a second: decides how wide it is drawn. */
  rate: number;
}

export interface Placed {
  id: string;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Curve extends Link {
  path: string;
  width: number;
}

export interface Layout {
  height: number;
  boxes: Map<string, Placed>;
  curves: Curve[];
}

const BOX_WIDTH_MAX = 236;
const GAP_MIN = 44;
const GAP = 14;

/** Places columns from left to right over the whole width, each in the middle of its height. */
export function layout(columns: Box[][], links: Link[], width: number): Layout {
  const filled = columns.filter((column) => column.length > 0);
  const count = Math.max(1, filled.length);
  const boxWidth = Math.min(BOX_WIDTH_MAX, (width - GAP_MIN * (count - 1)) / count);
  const step = count > 1 ? (width - boxWidth) / (count - 1) : 0;
  const heightOf = (column: Box[]) => column.reduce((sum, box) => sum + box.height, 0) + GAP * (column.length - 1);
  const height = Math.max(...filled.map(heightOf), 0);
  const boxes = new Map<string, Placed>();
  filled.forEach((column, i) => {
    let y = (height - heightOf(column)) / 2;
    for (const box of column) {
      boxes.set(box.id, { id: box.id, x: i * step, y, width: boxWidth, height: box.height });
      y += box.height + GAP;
    }
  });
  const curves = links.flatMap((link) => {
    const [from, to] = [boxes.get(link.from), boxes.get(link.to)];
    if (!from || !to) return [];
    const [x1, y1, x2, y2] = [from.x + from.width, from.y + from.height / 2, to.x, to.y + to.height / 2];
    const bend = (x2 - x1) / 2;
    return [{ ...link, path: `M${round(x1)} ${round(y1)}C${round(x1 + bend)} ${round(y1)} ${round(x2 - bend)} ${round(y2)} ${round(x2)} ${round(y2)}`, width: stroke(link.rate) }];
  });
  return { height, boxes, curves };
}

/** Ten times the traffic is a step wider, so that a trickle and a flood are both seen. */
export function stroke(rate: number): number {
  return Math.round(Math.min(9, 1.5 + 1.5 * Math.log10(1 + Math.max(0, rate))) * 10) / 10;
}

const round = (value: number) => Math.round(value * 10) / 10;
