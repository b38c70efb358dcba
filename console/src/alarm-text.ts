// The table of an alarm in the text of the configuration file. Pure. The node reads the whole again before anything is changed, and says what would be.

/** A line that begins a table: its name as it is written. */
function tableOf(line: string): string | null {
  const found = /^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(#.*)?$/.exec(line);
  return found ? found[1]!.replace(/\s*\.\s*/g, ".").replace(/"/g, "") : null;
}

/** Lines that are tables, and not lines of a text of several lines. */
function tables(lines: string[]): (string | null)[] {
  let fence: string | null = null;
  return lines.map((line) => {
    const within = fence !== null;
    for (const mark of line.match(/"""|'''/g) ?? []) {
      if (fence === null) fence = mark;
      else if (fence === mark) fence = null;
    }
    return within ? null : tableOf(line);
  });
}

/** From its first line to the one after its last; its own sub-tables belong to it. */
function span(lines: string[], name: string): [number, number] | null {
  const of = tables(lines);
  const own = `alarm.${name}`;
  const from = of.indexOf(own);
  if (from < 0) return null;
  let to = lines.length;
  for (let at = from + 1; at < lines.length; at += 1) {
    const table = of[at];
    if (table != null && table !== own && !table.startsWith(`${own}.`)) {
      to = at;
      break;
    }
  }
  // Comments and empty lines right before the next table are that table's.
  while (to > from + 1 && to < lines.length && /^\s*(#.*)?$/.test(lines[to - 1]!)) to -= 1;
  return [from, to];
}

/** What the file says about an alarm, without the line of its name; null: it has none of that name in a table of its own. */
export function alarmOf(text: string, name: string): string | null {
  const lines = text.split("\n");
  const found = span(lines, name);
  return found && `${lines.slice(found[0] + 1, found[1]).join("\n").trimEnd()}\n`;
}

/** The file with this alarm: in the place of the one of this name, or at the end. */
export function withAlarm(text: string, name: string, definition: string): string {
  const table = [`[alarm.${name}]`, ...definition.trim().split("\n")];
  const lines = text.split("\n");
  const found = span(lines, name);
  if (!found) return `${text.trimEnd()}\n\n${table.join("\n")}\n`;
  const rest = lines.slice(found[1]);
  const gap = rest.length > 0 && rest[0]!.trim() !== "" ? [""] : [];
  const whole = [...lines.slice(0, found[0]), ...table, ...gap, ...rest].join("\n");
  return whole.endsWith("\n") ? whole : `${whole}\n`;
}

/** The names of alarms that have a table of their own. */
export function alarmNames(text: string): string[] {
  const names = tables(text.split("\n")).flatMap((table) => (table && /^alarm\.[^.]+$/.test(table) ? [table.slice("alarm.".length)] : []));
  return [...new Set(names)];
}

/** A name that needs no quotes. */
export const isName = (name: string) => /^[A-Za-z0-9_-]{1,63}$/.test(name);
