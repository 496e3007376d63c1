'use strict'

const setup = JSON.parse(document.getElementById('setup').textContent)
const [form, question, ask, stop, models, status, answers, examples] = [
  'form', 'question', 'ask', 'stop', 'models', 'status', 'answers', 'examples',
].map(id => document.getElementById(id))
let language = 'en'
let current = null // the request that runs: {controller, columns}

// Words: an element keeps the name of what it says, so that it can be said again in another language.

function say(element, word, values = {}) {
  element.dataset.word = word
  element.dataset.values = JSON.stringify(values)
  element.textContent = phrase(word, values)
}

function phrase(word, values) {
  return setup.words[language][word].replace(/\{(\w+)\}/g, (_, name) => values[name])
}

function speak(chosen) {
  language = chosen
  document.documentElement.lang = chosen
  for (const element of document.querySelectorAll('[data-word]')) {
    element.textContent = phrase(element.dataset.word, JSON.parse(element.dataset.values || '{}'))
  }
  for (const element of document.querySelectorAll('[data-label]')) {
    element.setAttribute('aria-label', phrase(element.dataset.label, {}))
  }
  for (const button of document.querySelectorAll('[data-language]')) {
    button.setAttribute('aria-pressed', String(button.dataset.language === chosen))
  }
  showExamples()
  try { localStorage.setItem('qdsft-language', chosen) } catch { /* a browser that keeps nothing */ }
}

function firstLanguage() {
  let kept = null
  try { kept = localStorage.getItem('qdsft-language') } catch { /* the same */ }
  return kept in setup.words ? kept : navigator.language.startsWith('ko') ? 'ko' : 'en'
}

function report(word, values = {}, bad = false) {
  if (status.textContent !== phrase(word, values)) say(status, word, values) // said aloud once
  status.classList.toggle('warn', bad)
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}

function worded(tag, word, values = {}, properties = {}) {
  const element = make(tag, properties)
  say(element, word, values)
  return element
}

// What can be chosen.

function showExamples() {
  const other = language === 'en' ? 'ko' : 'en'
  examples.replaceChildren(...[language, other].flatMap(name => setup.examples[name].map(text => {
    const button = make('button', { type: 'button', lang: name, textContent: text })
    button.addEventListener('click', () => { question.value = text; send() })
    return make('li', {}, button)
  })))
}

function showModels() {
  models.hidden = setup.columns.length < 2
  models.append(...setup.columns.map((name, place) =>
    make('label', {}, make('input', { type: 'checkbox', checked: true, value: place }), make('span', { textContent: name }))))
}

// Asking.

async function send() {
  const asked = question.value.trim()
  const columns = [...models.querySelectorAll('input:checked')].map(box => Number(box.value))
  if (!asked) { report('empty', {}, true); question.focus(); return }
  if (!columns.length) { report('no model', {}, true); return }
  end('stopped')
  const request = { controller: new AbortController(), parts: {} }
  current = request
  answers.replaceChildren(...columns.map(place => (request.parts[place] = emptyAnswer(place)).section))
  running(true)
  try {
    await read(request, asked, columns)
  } catch { /* nobody answers: some parts are not complete */ }
  if (current !== request) return
  const whole = Object.values(request.parts).every(part => part.complete)
  end('done')
  if (!whole) report('lost', {}, true)
}

async function read(request, asked, columns) {
  const response = await fetch('answer', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ question: asked, columns }),
    signal: request.controller.signal,
  })
  if (!response.ok) {
    const refusal = await response.json()
    if (current === request) { end('stopped'); answers.replaceChildren(); report('error', refusal, true) }
    return
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  for (let rest = ''; ;) {
    const { value, done } = await reader.read()
    if (done) return
    const lines = (rest + value).split('\n')
    rest = lines.pop()
    for (const line of lines) if (current === request) show(request, JSON.parse(line))
  }
}

// The end of what runs, however it came: what is still being written stays, and is marked.
function end(word) {
  if (!current) return
  const { controller, parts } = current
  current = null
  controller.abort()
  for (const part of Object.values(parts)) {
    part.body.classList.remove('writing')
    if (!part.complete && !part.facts.dataset.word) say(part.facts, 'unfinished')
  }
  running(false)
  report(word)
}

function running(is) {
  const focused = document.activeElement
  ask.hidden = is
  stop.hidden = !is
  answers.setAttribute('aria-busy', String(is))
  if (is && focused === ask) stop.focus()
  if (!is && focused === stop) question.focus()
}

// Showing.

function emptyAnswer(place) {
  const facts = make('p', { className: 'note facts' })
  const body = make('ol', { className: 'steps writing' })
  body.setAttribute('role', 'list') // which some screen readers forget where no markers are drawn
  const name = make('h2', { textContent: setup.columns[place] })
  return { section: make('section', { className: 'answer' }, name, facts, body), facts, body, complete: false }
}

function show(request, event) {
  if (event.kind === 'waiting') {
    if (event.ahead) report('waiting', { n: event.ahead })
    return
  }
  if (event.kind === 'error' && !('column' in event)) {
    end('stopped')
    report('error', event, true)
    return
  }
  const part = request.parts[event.column]
  const name = setup.columns[event.column]
  if (event.kind === 'begin') report('begun', { name })
  if (event.kind === 'partial' || event.kind === 'answer') write(part, event)
  if (event.kind === 'partial' && event.steps?.length) report('step', { name, n: event.steps.length })
  if (event.kind === 'partial' && !event.steps) report('writing', { name })
  if (event.kind === 'answer') complete(part, event)
  if (event.kind === 'error') {
    part.complete = true
    part.body.classList.remove('writing')
    say(part.facts, 'error', { message: event.message })
    part.facts.classList.add('warn')
  }
}

function write(part, { steps, text }) {
  if (!steps) { // another task than decomposition
    part.body.replaceChildren(make('pre', { textContent: text }))
    return
  }
  while (part.body.children.length > steps.length) part.body.lastChild.remove()
  steps.forEach((step, place) => {
    const item = part.body.children[place] || part.body.appendChild(make('li'))
    if (item.dataset.step === step) return
    item.dataset.step = step
    item.replaceChildren(...step.split(/(#\d+)/).map((piece, odd) =>
      odd % 2 ? make('span', { className: 'ref', textContent: piece }) : piece))
  })
}

function complete(part, event) {
  part.complete = true
  part.body.classList.remove('writing')
  say(part.facts, 'facts', { tokens: event.tokens, seconds: event.seconds })
  if (!event.stopped) part.section.append(worded('p', 'cut off', { tokens: event.tokens }, { className: 'warn' }))
  if (event.faults?.length) {
    const items = event.faults.map(([kind, description]) =>
      make('li', { title: description }, ...(kind in setup.words.en ? [worded('span', kind), ': '] : []), description))
    part.section.append(worded('p', 'faults', {}, { className: 'warn' }), make('ul', { className: 'faults' }, ...items))
  }
  if (event.graph) {
    const figure = make('figure')
    figure.innerHTML = event.graph // drawn and escaped by the server
    figure.prepend(worded('figcaption', 'graph'))
    part.section.append(figure)
  }
  part.section.append(...copyButtons(event.copies))
}

function copyButtons(copies) {
  const box = make('div', { className: 'copy-text', hidden: true })
  const row = make('div', { className: 'copies' }, worded('span', 'copy'))
  for (const format of ['json', 'mermaid', 'self-ask']) {
    const button = worded('button', `copy ${format}`, {}, { type: 'button', disabled: !(format in copies) })
    button.dataset.format = format
    button.addEventListener('click', () => copy(box, copies[format]))
    row.append(button)
  }
  const missing = Object.keys(copies).length < 3 ? [worded('p', 'no copy', {}, { className: 'note' })] : []
  return [row, ...missing, box]
}

async function copy(box, text) {
  const area = make('textarea', { readOnly: true, value: text, rows: Math.min(12, text.split('\n').length + 1) })
  area.dataset.label = 'text'
  area.setAttribute('aria-label', phrase('text', {}))
  const said = make('p', { className: 'note' })
  said.setAttribute('role', 'status')
  box.replaceChildren(said, area)
  box.hidden = false
  let done = false
  try {
    await navigator.clipboard.writeText(text) // there only on this machine, or with HTTPS
    done = true
  } catch {
    area.select()
    done = document.execCommand('copy')
  }
  say(said, done ? 'copied' : 'to copy')
}

// By hand.

form.addEventListener('submit', event => { event.preventDefault(); send() })
stop.addEventListener('click', () => end('stopped'))
question.addEventListener('keydown', event => {
  // While a Korean syllable is being composed, Enter belongs to the input method.
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
    event.preventDefault()
    send()
  }
})
document.addEventListener('keydown', event => { if (event.key === 'Escape' && !event.isComposing) end('stopped') })
for (const button of document.querySelectorAll('[data-language]')) {
  button.addEventListener('click', () => speak(button.dataset.language))
}
showModels()
speak(firstLanguage())
