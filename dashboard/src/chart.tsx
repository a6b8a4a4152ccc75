// Decisions a minute, by action, over the last hour.

import { useEffect, useMemo, useRef } from "react";
import uPlot from "uplot";
import { type Action, actions } from "./entry";
import { useMedia } from "./ui";

export interface Minute {
  time: string;
  actions: Partial<Record<Action, number>>;
}

/** stack turns minutes into uPlot's columns: for each action the sum of itself and the milder ones, strictest first, so that each area is drawn over the one behind it. */
export function stack(minutes: Minute[]): number[][] {
  const x = minutes.map((m) => Math.floor(Date.parse(m.time) / 1000));
  const sums = actions.map((_, i) => minutes.map((m) => actions.slice(0, i + 1).reduce((n, a) => n + (m.actions[a] ?? 0), 0)));
  return [x, ...sums.toReversed()];
}

const height = 92;

export function DecisionChart({ minutes }: { minutes: Minute[] }) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const dark = useMedia("(prefers-color-scheme: dark)");
  const data = useMemo(() => stack(minutes) as uPlot.AlignedData, [minutes]);
  const latest = useRef(data);
  latest.current = data;

  useEffect(() => {
    const el = host.current;
    if (!el) return;
    const css = getComputedStyle(el);
    const colour = (name: string) => css.getPropertyValue(name).trim();
    const p = new uPlot(
      {
        width: Math.max(el.clientWidth, 100),
        height,
        legend: { show: false },
        cursor: { show: false },
        padding: [6, 4, 0, 0],
        scales: { x: { time: true }, y: { range: (_u, _min, max) => [0, Math.max(max, 4)] } },
        axes: [
          { stroke: colour("--quiet"), grid: { show: false }, ticks: { show: false }, size: 20, font: "11px system-ui", space: 60, values: "{HH}:{mm}" },
          { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, size: 38, font: "11px system-ui", space: 18, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000, 100000] },
        ],
        series: [
          {},
          ...actions.toReversed().map((a) => ({
            label: a,
            fill: colour(`--fill-${a}`),
            width: 0,
            points: { show: false },
            paths: uPlot.paths.bars?.({ size: [0.86, 40] }) ?? null,
          })) as uPlot.Series[],
        ],
      },
      latest.current,
      el,
    );
    plot.current = p;
    const resize = new ResizeObserver(() => p.setSize({ width: Math.max(el.clientWidth, 100), height }));
    resize.observe(el);
    return () => {
      resize.disconnect();
      p.destroy();
      plot.current = null;
    };
  }, [dark]);

  useEffect(() => {
    plot.current?.setData(data);
  }, [data]);

  const total = minutes.reduce((n, m) => n + actions.reduce((k, a) => k + (m.actions[a] ?? 0), 0), 0);
  return (
    <figure className="chart">
      <figcaption>Decisions a minute</figcaption>
      <div ref={host} role="img" aria-label={`Decisions a minute by action over the last hour, ${total} in all`} />
    </figure>
  );
}
