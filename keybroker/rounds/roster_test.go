package rounds

import (
	"fmt"
	"reflect"
	"runtime"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// slow is a list without an index: what the stores have to agree with.
type slow struct{ r *Record }

func (l slow) find(d digest.Digest) (Member, bool, error) {
	for _, m := range l.r.Members {
		if m.Contribution == d {
			return m, true, nil
		}
	}
	return Member{}, false, nil
}

func (l slow) taken(m Member) (bool, error) {
	for _, other := range l.r.Members {
		if other.Agent == m.Agent || other.Upload == m.Upload {
			return true, nil
		}
	}
	return false, nil
}

func (l slow) ofChip(chip digest.Digest) (n uint32, err error) {
	for _, m := range l.r.Members {
		if m.Chip == chip {
			n++
		}
	}
	return n, nil
}

func (l slow) count() uint64      { return uint64(len(l.r.Members)) }
func (l slow) put(m Member) error { l.r.Members = append(l.r.Members, m); return nil }

// enlistIn admits into a record itself.
func enlistIn(r *Record, some []Member, p Places) ([]error, error) {
	own := *r
	list := slow{&Record{}}
	refused, err := enlistAll(list, &own, some, p)
	if err == nil {
		r.Members = list.r.Members
	}
	return refused, err
}

func member(n int) Member {
	d := func(kind byte) digest.Digest { return digest.Digest{kind, byte(n >> 8), byte(n)} }
	return Member{Contribution: d(1), Agent: d(2), Chip: d(3), Upload: d(4), Weight: 1}
}

// Each reason for which a store refuses a member, alone and inside one call; and what it
// answers about those that are there.
func storeAdmits(t *testing.T, p place) {
	ctx, s := t.Context(), used(t, p)
	create(t, s, record(1))
	id, places := digest.RoundID{1}, Places{PerGuest: 2, Maximum: 6}
	want := record(1)
	same := func(n int, change func(*Member)) Member { m := member(n); change(&m); return m }
	for _, step := range []struct {
		some []Member
		want []refusal.Reason
	}{
		{[]Member{member(1), member(2)}, []refusal.Reason{"", ""}},
		{[]Member{member(2), member(3), member(3)}, []refusal.Reason{"", "", ""}},
		{nil, nil},
		{[]Member{
			same(10, func(m *Member) { m.Agent = member(1).Agent }), same(11, func(m *Member) { m.Upload = member(2).Upload }),
			same(12, func(m *Member) { m.Chip = member(1).Chip }), same(13, func(m *Member) { m.Chip = member(1).Chip }),
			member(14), same(15, func(m *Member) { m.Agent = member(14).Agent }),
		}, []refusal.Reason{ReasonDuplicate, ReasonDuplicate, "", ReasonGuest, "", ReasonDuplicate}},
		{[]Member{member(20), member(21), member(1)}, []refusal.Reason{"", ReasonFull, ""}},
	} {
		got, err := s.Admit(ctx, id, step.some, places)
		if err != nil || len(got) != len(step.want) {
			t.Fatalf("%v, %v", got, err)
		}
		for i, why := range got {
			wantReason(t, fmt.Sprintf("member %x", step.some[i].Contribution[:3]), why, step.want[i])
		}
		if _, err := enlistIn(&want, step.some, places); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.Get(ctx, id)
	if err != nil || !reflect.DeepEqual(r.Members, want.Members) || len(r.Members) != 6 {
		t.Errorf("%+v, %v", r, err)
	}
	if h, err := s.Head(ctx, id); err != nil || len(h.Members) != 0 || string(h.Signed) != string(r.Signed) {
		t.Errorf("%+v, %v", h, err)
	}
	found, err := s.Members(ctx, id, []digest.Digest{member(1).Contribution, member(21).Contribution, member(20).Contribution})
	if err != nil || len(found) != 2 || found[member(1).Contribution] != member(1) || found[member(20).Contribution] != member(20) {
		t.Errorf("%+v, %v", found, err)
	}
	_, err = s.Admit(ctx, digest.RoundID{9}, []Member{member(1)}, places)
	wantReason(t, "an unknown round", err, ReasonUnknown)
	_, err = s.Members(ctx, digest.RoundID{9}, nil)
	wantReason(t, "members of an unknown round", err, ReasonUnknown)
	_, err = s.Head(ctx, digest.RoundID{9})
	wantReason(t, "the head of an unknown round", err, ReasonUnknown)
}

// What was read before a list became longer does not end the round; read again, it does,
// with all of the list in its record and none beside it.
func storeEndsWithItsList(t *testing.T, p place) {
	ctx, s := t.Context(), used(t, p)
	create(t, s, record(1))
	id, places := digest.RoundID{1}, Places{PerGuest: 1, Maximum: 10}
	admit := func(n int) {
		t.Helper()
		if got, err := s.Admit(ctx, id, []Member{member(n)}, places); err != nil || got[0] != nil {
			t.Fatalf("%v, %v", got, err)
		}
	}
	admit(1)
	before, err := s.Get(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	admit(2)
	ended, charge := closed(before)
	wantReason(t, "a list that became longer", s.Update(ctx, ended, charge), ReasonConflict)
	if list, err := s.Charges(ctx, "test"); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	now, err := s.Get(ctx, id)
	if err != nil || len(now.Members) != 2 {
		t.Fatalf("%+v, %v", now, err)
	}
	wantReason(t, "an open round with two lists", s.Update(ctx, now, nil), ReasonStore)
	ended, charge = closed(now)
	ended.Members = ended.Members[:1]
	if err := s.Update(ctx, ended, charge); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(ctx, id); err != nil || len(got.Members) != 1 || got.listed != 0 || got.Members[0] != member(1) {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = s.Admit(ctx, id, []Member{member(3)}, places)
	wantReason(t, "a closed round", err, ReasonClosed)
	if found, err := s.Members(ctx, id, []digest.Digest{member(1).Contribution, member(2).Contribution}); err != nil || len(found) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

// An open round of an earlier version has its list in its record. It counts, and goes on.
func storeTakesOverItsList(t *testing.T, p place) {
	ctx, s := t.Context(), used(t, p)
	r := record(1)
	r.Members = []Member{member(1), member(2)}
	create(t, s, r)
	places := Places{PerGuest: 1, Maximum: 3}
	if found, err := s.Members(ctx, r.ID, []digest.Digest{member(2).Contribution}); err != nil || found[member(2).Contribution] != member(2) {
		t.Errorf("%+v, %v", found, err)
	}
	twice := member(9)
	twice.Agent = member(1).Agent
	got, err := s.Admit(ctx, r.ID, []Member{member(1), twice, member(3), member(4)}, places)
	if err != nil || len(got) != 4 || got[0] != nil || got[2] != nil {
		t.Fatalf("%v, %v", got, err)
	}
	wantReason(t, "an agent of before", got[1], ReasonDuplicate)
	wantReason(t, "the fourth", got[3], ReasonFull)
	now, err := s.Get(ctx, r.ID)
	if err != nil || !reflect.DeepEqual(now.Members, []Member{member(1), member(2), member(3)}) {
		t.Errorf("%+v, %v", now, err)
	}
	if list, err := listOf(ctx, s); err != nil || len(list) != 1 || len(list[0].Members) != 3 {
		t.Errorf("%+v, %v", list, err)
	}
}

// steps are the look-ups and the pages of the file's transactions, and what was allocated: all
// that is read of a list is decoded.
func steps(b *Bolt) (lookups, pages, allocated float64) {
	st := b.db.Stats()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return float64(st.TxStats.GetCursorCount()), float64(st.TxStats.GetPageAlloc()), float64(mem.Mallocs)
}

// A contribution to a round of a thousand takes as many steps as one to a round of few, one by
// one and in parts: nothing reads or writes the list of those before.
func TestAdmissionTakesAsLongForManyAsForFew(t *testing.T) {
	longtest.Run(t, "it admits some thousand agents")
	for _, together := range []int{1, 32} {
		var few, fewAllocations float64
		for _, cohort := range []int{64, 256, 1024} {
			b := bolted(t)
			r := record(1)
			r.Signed = make([]byte, 6<<10)
			create(t, b, r)
			lookups, pages, allocations := steps(b)
			for n := 0; n < cohort; n += together {
				var some []Member
				var digests []digest.Digest
				for k := range together {
					some = append(some, member(n+k))
					digests = append(digests, member(n+k).Contribution)
				}
				if _, err := b.Head(t.Context(), r.ID); err != nil {
					t.Fatal(err)
				}
				if found, err := b.Members(t.Context(), r.ID, digests); err != nil || len(found) != 0 {
					t.Fatalf("%v, %v", found, err)
				}
				refused, err := b.Admit(t.Context(), r.ID, some, Places{PerGuest: 1, Maximum: uint32(cohort)})
				if err != nil {
					t.Fatal(err)
				}
				for _, why := range refused {
					if why != nil {
						t.Fatal(why)
					}
				}
			}
			n := float64(cohort)
			after, pagesAfter, allocationsAfter := steps(b)
			lookups, pages, allocations = (after-lookups)/n, (pagesAfter-pages)/n, (allocationsAfter-allocations)/n
			t.Logf("%d contributions, %d at once: %.1f look-ups, %.0f bytes of pages and %.0f allocations for each", cohort, together, lookups, pages, allocations)
			if few == 0 {
				few, fewAllocations = lookups, allocations
			}
			if lookups > 1.5*few || allocations > 1.5*fewAllocations || pages > 64<<10 {
				t.Errorf("%d contributions, %d at once: %.1f look-ups and %.0f allocations each, %.1f and %.0f in a round of 64; %.0f bytes of pages", cohort, together, lookups, allocations, few, fewAllocations, pages)
			}
		}
	}
}

// A list that was damaged is no list.
func TestDamagedListsAreRefused(t *testing.T) {
	for name, damage := range map[string]func(*bolt.Bucket) error{
		"a member that is gone": func(b *bolt.Bucket) error { return b.Delete(memberKey(memberAt, sequence(2))) },
		"a member of another":   func(b *bolt.Bucket) error { return b.Put(memberKey(memberAt, sequence(2)), []byte("{}")) },
		"a contribution's place": func(b *bolt.Bucket) error {
			d := member(2).Contribution
			return b.Put(memberKey(memberOf, d[:]), sequence(1))
		},
		"a processor's number":           func(b *bolt.Bucket) error { d := member(2).Chip; return b.Put(memberKey(memberChip, d[:]), []byte{1}) },
		"a list of a round that is over": nil,
	} {
		b := bolted(t)
		create(t, b, record(1))
		id, places := digest.RoundID{1}, Places{PerGuest: 2, Maximum: 9}
		if _, err := b.Admit(t.Context(), id, []Member{member(1), member(2)}, places); err != nil {
			t.Fatal(err)
		}
		if err := b.db.Update(func(tx *bolt.Tx) error {
			if damage != nil {
				return damage(tx.Bucket([]byte(bucketMembers)).Bucket(id[:]))
			}
			r, key, err := getHead(tx, id)
			if err != nil {
				return err
			}
			r.State = Abandoned
			return putRecord(tx.Bucket([]byte(bucketRounds)), append([]byte(nil), key...), r)
		}); err != nil {
			t.Fatal(err)
		}
		again := member(7)
		again.Chip = member(2).Chip
		_, get := b.Get(t.Context(), id)
		_, members := b.Members(t.Context(), id, []digest.Digest{member(2).Contribution})
		_, admit := b.Admit(t.Context(), id, []Member{again}, places)
		damaged := 0
		for _, err := range []error{get, members, admit} {
			if reason, ok := refusal.ReasonOf(err); ok && reason == ReasonStore {
				damaged++
			}
		}
		if damaged == 0 {
			t.Errorf("%s: %v; %v; %v", name, get, members, admit)
		}
	}
}
