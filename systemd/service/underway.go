package service

import (
	"sync/atomic"
	"time"
)

// Underway is the beginning of something that may hang, for a health check. It uses the
// monotonic clock, because the wall clock is set forward by hours once a guest has found the
// time, and back by its host. The zero value means that nothing is under way. Its methods are
// safe for concurrent use.
type Underway struct{ began atomic.Pointer[time.Time] }

// Begin records the beginning at now, which must carry a monotonic reading (time.Now).
func (u *Underway) Begin(now time.Time) { u.began.Store(&now) }

// End records that it returned.
func (u *Underway) End() { u.began.Store(nil) }

// Since is the time at which it began; ok is false if nothing is under way.
func (u *Underway) Since() (began time.Time, ok bool) {
	if at := u.began.Load(); at != nil {
		return *at, true
	}
	return time.Time{}, false
}

// Longer reports whether it has been under way for longer than limit at now.
func (u *Underway) Longer(limit time.Duration, now time.Time) bool {
	began, ok := u.Since()
	return ok && now.Sub(began) > limit
}
