package prove

// room is what the answers take that wait to be written down, in all and of each user.
type room struct {
	all amount
	of  map[uint32]amount // of users who have some
}

type amount struct{ answers, bytes int }

// has says whether one more answer of so many bytes fits, of this user and in all.
func (r *room) has(owner uint32, bytes int) bool {
	own := r.of[owner]
	return r.all.answers < maxWaiting && r.all.bytes+bytes <= maxWaitingBytes && own.answers < ownerWaiting && own.bytes+bytes <= ownerWaitingBytes
}

// add takes room, or with negative numbers gives it back.
func (r *room) add(owner uint32, answers, bytes int) {
	own := r.of[owner]
	own = amount{own.answers + answers, own.bytes + bytes}
	r.all = amount{r.all.answers + answers, r.all.bytes + bytes}
	switch {
	case own.answers == 0:
		delete(r.of, owner)
		return
	case r.of == nil:
		r.of = map[uint32]amount{}
	}
	r.of[owner] = own
}
