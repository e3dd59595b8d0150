package service

import (
	"sync/atomic"
	"time"
)

// Underway is when something that may hang began, for a health check. It is held against
// the monotonic clock: the wall's is set forward by hours once a guest has found the time,
// and back by its host. Its zero value is nothing under way. Its methods may be called from
// any goroutine.
type Underway struct{ began atomic.Pointer[time.Time] }

// Begin notes that it begins at now, which must carry a monotonic reading (time.Now).
func (u *Underway) Begin(now time.Time) { u.began.Store(&now) }

// End notes that it came back.
func (u *Underway) End() { u.began.Store(nil) }

// Since is when it began; ok is false if nothing is under way.
func (u *Underway) Since() (began time.Time, ok bool) {
	if at := u.began.Load(); at != nil {
		return *at, true
	}
	return time.Time{}, false
}

// Longer says whether it has been under way for longer than limit at now.
func (u *Underway) Longer(limit time.Duration, now time.Time) bool {
	began, ok := u.Since()
	return ok && now.Sub(began) > limit
}
