// Numbers and times as people read them.

const digits = (value, places) => value.toLocaleString("en", { minimumFractionDigits: 0, maximumFractionDigits: places });

/** Three significant digits, with a letter for thousands and millions. */
export function count(value) {
  if (!Number.isFinite(value)) return "0";
  if (value >= 999_500) return `${digits(value / 1e6, value < 1e7 ? 2 : 1)}M`;
  if (value >= 9_995) return `${digits(value / 1e3, value < 1e5 ? 1 : 0)}k`;
  return digits(value, value < 10 ? 2 : value < 100 ? 1 : 0);
}

/** A time in milliseconds. */
export function milliseconds(value) {
  if (!value) return "\u2013";
  if (value >= 9_995) return `${digits(value / 1e3, 1)} s`;
  return `${digits(value, value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;
}

/** A share from 0 to 1. */
export function percent(value) {
  if (!value) return "0 %";
  return `${digits(value * 100, value < 0.1 ? 2 : 1)} %`;
}

export function bytes(value) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1000 || unit === "GiB") return `${digits(value, value < 10 && unit !== "B" ? 1 : 0)} ${unit}`;
    value /= 1024;
  }
}

/** How long, in its largest unit. */
export function span(seconds) {
  if (seconds < 100) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** How long ago. */
export const since = (at) => span((Date.now() - Date.parse(at)) / 1000);

export const clock = (at) => new Date(at).toLocaleTimeString("en-GB");
