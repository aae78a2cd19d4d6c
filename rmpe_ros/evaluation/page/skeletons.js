// Draws people as rmpe_ros/core/drawing.py does: a dark rim, limbs by side, lighter dots, labels.
'use strict';

const mix = (a, b, share) => a.map((value, i) => Math.round(share * value + (1 - share) * b[i]));
const css = (color) => `rgb(${color.join(',')})`;

function drawPeople(context, people, look, scale, minScore) {
  // The surest person is drawn last and lies on top.
  for (let i = people.length - 1; i >= 0; i--) drawPerson(context, people[i], i, look, scale, minScore);
  const taken = [];
  for (let i = 0; i < people.length; i++) drawLabel(context, people[i], i, look, scale, minScore, taken);
}

function colorOf(person, index, look) {
  const number = person.id >= 0 ? person.id : index;
  return look.colors[number % look.colors.length];
}

function drawPerson(context, person, index, look, scale, minScore) {
  const color = colorOf(person, index, look);
  const joints = person.joints;
  const seen = joints.map((joint) => joint[2] >= minScore);
  const points = joints.map((joint) => [(joint[0] + 0.5) * scale, (joint[1] + 0.5) * scale]);
  const shown = points.filter((_, i) => seen[i]);
  if (!shown.length) return;
  const extent = (axis) => Math.max(...shown.map((p) => p[axis])) - Math.min(...shown.map((p) => p[axis]));
  const box = person.box;
  const size = Math.max((box[2] - box[0]) * scale, (box[3] - box[1]) * scale, extent(0), extent(1));
  const width = Math.min(12, Math.max(1.5, size / 70));
  const rim = Math.max(1, width * 0.25);
  const shade = (side) => css(mix(color, [0, 0, 0], look.strengths[side]));
  const limbs = look.edges.filter(([a, b]) => seen[a] && seen[b]);
  context.lineCap = 'round';
  for (const pass of ['rim', 'limb']) {
    for (const [a, b, side] of limbs) {
      context.strokeStyle = pass === 'rim' ? 'rgb(20,20,20)' : shade(side);
      context.lineWidth = pass === 'rim' ? width + 2 * rim : width;
      context.beginPath();
      context.moveTo(...points[a]);
      context.lineTo(...points[b]);
      context.stroke();
    }
  }
  points.forEach((point, i) => {
    if (!seen[i]) return;
    const light = mix(mix(color, [0, 0, 0], look.strengths[look.sides[i]]), [255, 255, 255], 0.55);
    for (const [style, radius] of [['rgb(20,20,20)', width * 0.7 + rim * 0.7], [css(light), width * 0.7]]) {
      context.fillStyle = style;
      context.beginPath();
      context.arc(point[0], point[1], radius, 0, 2 * Math.PI);
      context.fill();
    }
  });
}

// The number and the score, beside the person rather than over a face or another label.
function drawLabel(context, person, index, look, scale, minScore, taken) {
  if (!person.joints.some((joint) => joint[2] >= minScore)) return;
  const text = (person.id >= 0 ? `${person.id}: ` : '') + person.score.toFixed(2);
  const height = Math.max(12, context.canvas.height / 32);
  context.font = `${Math.round(height * 0.8)}px sans-serif`;
  const width = context.measureText(text).width + 6;
  const [x1, y1, x2, y2] = person.box.map((value) => value * scale);
  const places = [[x1, y1 - height], [x2 - width, y1 - height], [x1, y2], [x2 - width, y2], [x1 - width, y1], [x2, y1]];
  const inside = ([x, y]) => x >= 0 && y >= 0 && x + width <= context.canvas.width && y + height <= context.canvas.height;
  const free = ([x, y]) => taken.every((t) => x >= t[0] + t[2] || t[0] >= x + width || y >= t[1] + t[3] || t[1] >= y + height);
  const fit = places.filter(inside);
  let [x, y] = fit.find(free) || fit[0] || places[0];
  x = Math.min(Math.max(x, 0), context.canvas.width - width);
  y = Math.min(Math.max(y, 0), context.canvas.height - height);
  taken.push([x, y, width, height]);
  context.fillStyle = css(colorOf(person, index, look));
  context.fillRect(x, y, width, height);
  context.fillStyle = '#000';
  context.fillText(text, x + 3, y + height * 0.78);
}
