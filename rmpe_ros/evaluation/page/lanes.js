// Lanes below the player: curves, bars and marks on one time axis; a click goes to that moment.
'use strict';

class Lane {
  constructor(parent, lane, span, seek) {
    this.lane = lane;
    this.span = span;
    const element = document.createElement('div');
    element.className = 'lane';
    const title = document.createElement('h3');
    title.append(lane.title);
    for (const series of lane.series) {
      const key = document.createElement('span');
      key.className = 'key';
      const patch = document.createElement('i');
      patch.style.background = series.color;
      key.append(patch, series.name);
      title.append(key);
    }
    this.canvas = document.createElement('canvas');
    this.canvas.title = 'click: go there';
    element.append(title, this.canvas);
    parent.append(element);
    const go = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      seek(span[0] + Math.min(1, Math.max(0, share)) * (span[1] - span[0]));
    };
    this.canvas.addEventListener('pointerdown', (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      go(event);
    });
    this.canvas.addEventListener('pointermove', (event) => { if (event.buttons) go(event); });
    this.still = document.createElement('canvas');
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.still]) {
      canvas.width = Math.max(1, Math.round(box.width * ratio));
      canvas.height = Math.max(1, Math.round(box.height * ratio));
    }
    this.paint(this.still.getContext('2d'), this.still.width, this.still.height, ratio);
  }

  x(time, width) {
    return ((time - this.span[0]) / Math.max(1e-9, this.span[1] - this.span[0])) * width;
  }

  paint(context, width, height, ratio) {
    const values = this.lane.series.flatMap((s) => [...(s.values || []), ...(s.upper || [])]);
    const numbers = values.filter((v) => v !== null);
    const top = this.lane.top || Math.max(...numbers, 1e-9) * 1.3;
    const y = (value) => height - 2 - (Math.min(value, top) / top) * (height - 4);
    for (const series of this.lane.series) {
      context.strokeStyle = context.fillStyle = series.color;
      context.lineWidth = 1.5 * ratio;
      if (series.marks) {
        context.globalAlpha = 0.8;
        for (const time of series.marks) {
          context.fillRect(this.x(time, width) - ratio, height * (series.from || 0), 2 * ratio, height * (series.size || 1));
        }
        context.globalAlpha = 1;
        continue;
      }
      if (series.upper) this.area(context, series, y, width);
      this.curve(context, series.times, series.values, y, width);
    }
    context.fillStyle = getComputedStyle(document.body).color;
    context.font = `${11 * ratio}px sans-serif`;
    if (numbers.length) context.fillText(`${Number(top.toPrecision(3))} ${this.lane.unit}`, 4 * ratio, 12 * ratio);
  }

  curve(context, times, values, y, width) {
    context.beginPath();
    let pen = false;
    times.forEach((time, i) => {
      if (values[i] === null) { pen = false; return; }
      context[pen ? 'lineTo' : 'moveTo'](this.x(time, width), y(values[i]));
      if (!pen) context.lineTo(this.x(time, width) + 1, y(values[i]));
      pen = true;
    });
    context.stroke();
  }

  area(context, series, y, width) {
    context.globalAlpha = 0.22;
    series.times.forEach((time, i) => {
      if (series.values[i] === null || series.upper[i] === null) return;
      const next = i + 1 < series.times.length ? series.times[i + 1] : time;
      const left = this.x(time, width);
      context.fillRect(left, y(series.upper[i]), Math.max(1.5, this.x(next, width) - left), y(series.values[i]) - y(series.upper[i]));
    });
    context.globalAlpha = 1;
  }

  show(time) {
    const context = this.canvas.getContext('2d');
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.still, 0, 0);
    context.fillStyle = '#e5484d';
    context.fillRect(this.x(time, this.canvas.width) - 1, 0, 2, this.canvas.height);
  }
}
