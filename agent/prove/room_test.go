package prove

import "testing"

func TestAnswersThatWaitAreCountedToo(t *testing.T) {
	var r room
	for r.has(5, 1) {
		r.add(5, 1, 1)
	}
	if n := r.of[5].answers; n != ownerWaiting || !r.has(6, 1) {
		t.Errorf("%d answers of one user; another's fit: %t", n, r.has(6, 1))
	}
	for r.has(6, 1) {
		r.add(6, 1, 1)
	}
	if r.all.answers != maxWaiting || r.has(7, 1) {
		t.Errorf("%d answers in all", r.all.answers)
	}
}
