package weights

// forecast guesses which chunk is needed next. Weights are used in file order
// and, token after token, from the start again; single looks elsewhere (one row
// of the embedding) do not change the guess, two in a row do.
//
// Positions are taken as places on a circle: head is the furthest one asked
// for, and the window of forecast begins behind it.
type forecast struct {
	n       int // positions on the circle
	window  int // how far ahead to read
	workers int
	started bool
	head    int
	done    int // positions behind head that were handed out already
	jump    int // last request outside the window, -1
}

func newForecast(n, workers int) forecast {
	return forecast{n: n, window: min(ahead(workers), n-1), workers: workers, jump: -1}
}

// distance is the way from a to b forward, or, if shorter, backward as a
// negative number.
func (f *forecast) distance(a, b int) int {
	d := (b - a) % f.n
	if d < 0 {
		d += f.n
	}
	if d > f.n/2 {
		d -= f.n
	}
	return d
}

// observe takes note of a request.
func (f *forecast) observe(p int) {
	if d := f.distance(f.head, p); f.started && d >= -f.workers && d <= f.window+f.workers {
		if d > 0 {
			f.head = p
			f.done = max(f.done-d, 0)
		}
		return
	}
	if d := f.distance(f.jump, p); f.jump < 0 || d < -f.workers || d > f.workers {
		f.jump = p
		return
	}
	f.started, f.head, f.done, f.jump = true, p, 0, -1
}

// next returns the next position to read, if the window is not full.
func (f *forecast) next() (p int, ok bool) {
	if !f.started || f.done >= f.window {
		return 0, false
	}
	return (f.head + f.done + 1) % f.n, true
}

// room reports whether n positions, or as many as the window has, may be read on.
func (f *forecast) room(n int) bool { return f.started && f.window-f.done >= min(n, f.window) }

// advance marks what next returned as handed out.
func (f *forecast) advance() { f.done++ }

// expected reports whether a chunk at p will be asked for soon, or was foreseen
// for a worker that is slower than the others.
func (f *forecast) expected(p int) bool {
	d := f.distance(f.head, p)
	return f.started && d >= -f.workers && d <= f.window
}
