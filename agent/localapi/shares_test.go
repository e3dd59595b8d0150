package localapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
)

// ofModels is a line of requests for models that each compute so many answers at a time.
func ofModels(slots, places int, models ...Slots) *Line {
	l := NewLine(slots, places)
	l.models = func() []Slots { return models }
	return l
}

// flood joins until it is refused, and returns the places.
func flood(t *testing.T, l *Line, uid uint32, model string) (list []*Place) {
	t.Helper()
	for range 64 {
		p, err := l.Join(uid, model, nil)
		if err != nil {
			refused(t, "flooded", err, http.StatusTooManyRequests, ReasonQueue)
			return list
		}
		list = append(list, p)
	}
	t.Fatal("nothing bounds the line")
	return nil
}

func (p *Place) runs() bool {
	select {
	case <-p.turn.begin:
		return true
	default:
		return false
	}
}

// TestAFloodForOneModelKeepsNoOtherOut: whoever floods, a request for another model has its slot at
// once, and places behind it; also of the user who floods. All of them stay within the line.
func TestAFloodForOneModelKeepsNoOtherOut(t *testing.T) {
	for _, users := range []int{1, 5} {
		l := ofModels(3, 16, Slots{"a", 2}, Slots{"b", 1}, Slots{"", 0})
		var all []*Place
		for uid := range users {
			all = append(all, flood(t, l, uint32(uid), "a")...)
		}
		if run, wait := l.LoadOf("a"); run != 2 || wait != 12 && users > 1 || wait != 10 && users == 1 {
			t.Errorf("%d users: %d run, %d wait", users, run, wait)
		}
		list := flood(t, l, 0, "b")
		if len(list) < 2 || !list[0].runs() || list[1].runs() {
			t.Errorf("%d users: %d requests for the other model", users, len(list))
		}
		// What one model frees is its own: the other's wait.
		_, before := l.LoadOf("b")
		all[0].Leave()
		run, _ := l.LoadOf("a")
		if _, after := l.LoadOf("b"); run != 2 || after != before {
			t.Errorf("%d users: %d wait, then %d; %d run", users, before, after, run)
		}
		if others := flood(t, l, 7, ""); len(others) < 1 {
			t.Errorf("%d users: none for classifiers", users)
		}
		if running, waiting := l.Load(); running != 3 || waiting > 16 {
			t.Errorf("%d users: %d run, %d wait", users, running, waiting)
		}
	}
}

// TestAModelTakesWhatIsFree: places that are kept for no other.
func TestAModelTakesWhatIsFree(t *testing.T) {
	l := ofModels(2, 16, Slots{"a", 1}, Slots{"b", 1})
	first := flood(t, l, 1, "b") // one runs, 9 wait
	flood(t, l, 2, "b")
	if _, waiting := l.Load(); len(first) != 10 || waiting != 12 {
		t.Errorf("%d of one user, %d wait", len(first), waiting)
	}
	// A name that is no model's has no places of its own, and takes none that are kept.
	if list := flood(t, l, 3, "c"); len(list) != 1 || !list[0].runs() {
		t.Errorf("%d requests for no model", len(list))
	}
	if list := flood(t, l, 3, "a"); len(list) != 4 {
		t.Errorf("%d requests had the kept places", len(list))
	}
}

// TestKeptPlacesNeverExceedTheLine, however few there are, and whatever comes in which order.
func TestKeptPlacesNeverExceedTheLine(t *testing.T) {
	for places := range 20 {
		for n := 2; n <= 9; n++ {
			var models []Slots
			for i := range n {
				models = append(models, Slots{fmt.Sprint(i), 1})
			}
			each := kept(places, n)
			if each*n > places || places >= n && each < 1 {
				t.Errorf("%d places of %d models: %d are kept for each", places, n, each)
			}
			waiting, total := map[string]int{}, 0
			l := ofModels(1, places, models...)
			for i := range n {
				name := fmt.Sprint(i)
				for l.mayWait(places, models, anyone, name) {
					l.waiting = append(l.waiting, &turn{model: name})
					waiting[name]++
					total++
				}
				if waiting[name] < each {
					t.Errorf("%d places of %d models: %s has %d of %d", places, n, name, waiting[name], each)
				}
			}
			if total != places {
				t.Errorf("%d places of %d models: %d are taken", places, n, total)
			}
		}
	}
}

// TestModelsTakeTurnsForAUser: a slot that any may have, which classifiers take, too.
func TestModelsTakeTurnsForAUser(t *testing.T) {
	l := ofModels(1, 16, Slots{"a", 1}, Slots{"", 0})
	first, err := l.Join(1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]*Place{}
	for _, name := range []string{"", "", "", "a"} {
		p, err := l.Join(1, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		places[name] = p
	}
	first.Leave()
	if !places["a"].runs() {
		t.Error("the model waits for all requests of classifiers")
	}
}

// TestWaitingRequestsForAModelHoldHalfOfTheMemory, so that others' have room.
func TestWaitingRequestsForAModelHoldHalfOfTheMemory(t *testing.T) {
	b := NewBudget(1000, 875, 16, Grace)
	l := ofModels(2, 16, Slots{"a", 1}, Slots{"b", 1})
	l.memory = 500
	join := func(model string, n int64) error {
		h, err := b.Reserve(t.Context(), uint32(model[0]), n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Release)
		_, err = l.Join(uint32(model[0]), model, h)
		if err != nil {
			h.Release()
		}
		return err
	}
	for range 6 { // one runs
		if err := join("a", 100); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, "beyond half", join("a", 100), http.StatusTooManyRequests, ReasonQueue)
	if err := errors.Join(join("b", 100), join("b", 100)); err != nil {
		t.Error(err)
	}
	// One that is alone in waiting may be as large as any.
	alone := ofModels(2, 16, Slots{"a", 1}, Slots{"b", 1})
	alone.memory = 50
	l = alone
	if err := errors.Join(join("a", 10), join("a", 60)); err != nil {
		t.Error(err)
	}
}

// TestALineFollowsItsModels: one that is added has slots of its own, one that is removed has none.
func TestALineFollowsItsModels(t *testing.T) {
	l := ofModels(1, 4, Slots{"a", 1})
	a := flood(t, l, 1, "a")
	l.models = func() []Slots { return []Slots{{"a", 1}, {"b", 2}} }
	b := []*Place{}
	for range 2 {
		p, err := l.Join(1, "b", nil)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, p)
	}
	if !b[0].runs() || !b[1].runs() {
		t.Error("the added model has no slots")
	}
	l.models = func() []Slots { return []Slots{{"a", 1}} }
	for _, p := range slices.Concat(b, a) {
		p.Leave()
	}
	if running, waiting := l.Load(); running != 0 || waiting != 0 || len(l.served)+len(l.turned) != 0 || len(l.running) != 0 {
		t.Error(running, waiting, l.served, l.running)
	}
}
