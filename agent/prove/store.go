package prove

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// maxWitnesses is how many witnesses are kept for a later request or challenge.
const maxWitnesses = 4096

// store has what lies on disk: the witnesses of answers, which go once they are proven or
// are too many, and the proofs. It knows which job proves an answer, so that no witness goes
// that a job still needs.
//
// It asks the queue while it holds mu; the queue's lock comes after its own.
type store struct {
	files   files
	room    *spool.Room // keeps a floor of the disk free
	most    int         // proofs
	age     time.Duration
	queue   *jobs.Queue
	agentOf func(receipt.Receipt) (digest.Digest, error)
	logger  *slog.Logger

	// All guarded by mu. Agents and owners are of witnesses alone; a name in kept may be of
	// one that is gone.
	mu     sync.Mutex
	kept   []digest.ReceiptID                 // witnesses, oldest first
	owners map[digest.ReceiptID]uint32        // whose answer it is
	agents map[digest.ReceiptID]digest.Digest // whose key signed it
	jobs   map[digest.ReceiptID]jobs.ID       // which job proves it, or proved it
}

// openStore makes the directories, and lists the witnesses of an earlier run.
func openStore(cfg Config) (*store, error) {
	st := &store{files: files{cfg.Dir, cfg.Key}, room: spool.NewRoom(cfg.Dir, spool.Limits{Floor: cfg.Floor}), most: cfg.Kept, age: cfg.KeptAge,
		queue: cfg.Queue, agentOf: cfg.Agent, logger: cfg.Logger,
		owners: map[digest.ReceiptID]uint32{}, agents: map[digest.ReceiptID]digest.Digest{}, jobs: map[digest.ReceiptID]jobs.ID{}}
	for _, folder := range []string{witnessFolder, proofFolder} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, folder), 0o700); err != nil {
			return nil, err
		}
	}
	return st, st.recall()
}

// recall lists the witnesses of an earlier run, oldest first.
func (st *store) recall() error {
	dir := filepath.Join(st.files.dir, witnessFolder)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var list []*dated
	for _, e := range entries {
		id, err := digest.ParseID[digest.Receipt](e.Name())
		if err != nil { // a temporary file that a crash left
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		list = append(list, &dated{id, info.ModTime()})
	}
	for _, witness := range oldestFirst(list) {
		st.kept = append(st.kept, witness.id)
	}
	return nil
}

// ids lists the witnesses, oldest first.
func (st *store) ids() []digest.ReceiptID {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.kept)
}

// keep writes a witness down, unless too little of the disk is free. One that is not chosen
// need not survive a loss of power.
func (st *store) keep(w witness) error {
	if err := st.room.Above(0); err != nil {
		return err
	}
	if err := st.writeWitness(w); err != nil {
		return err
	}
	st.note(w)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.kept = append(st.kept, w.id())
	return nil
}

// choose makes the witness of an answer that is asked for as durable as its job.
func (st *store) choose(w witness) error {
	if w.Chosen {
		return nil
	}
	w.Chosen = true
	return st.writeWitness(w)
}

func (st *store) writeWitness(w witness) error {
	raw, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return st.files.write(witnessFolder, w.id(), raw, w.Chosen)
}

// note remembers whose answer it is, and under which agent key it was signed. The broker's
// challenges name that key, and an agent that starts anew has another.
func (st *store) note(w witness) {
	st.mu.Lock()
	st.owners[w.id()] = w.Owner
	st.mu.Unlock()
	agent, err := st.agentOf(w.Issued.Receipt)
	if err != nil { // its proof can be asked for here; a challenge of it is not seen
		st.logger.Error("the agent key of a receipt cannot be determined", "receipt", w.id().String(), "err", err)
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.agents[w.id()] = agent
}

// signers are the keys under which answers were signed that can still be proven, in order.
func (st *store) signers() (list []digest.Digest) {
	st.mu.Lock()
	defer st.mu.Unlock()
	seen := map[digest.Digest]*digest.Digest{}
	for _, agent := range st.agents {
		seen[agent] = &agent
	}
	for _, agent := range slices.SortedFunc(maps.Values(seen), func(a, b *digest.Digest) int { return bytes.Compare(a[:], b[:]) }) {
		list = append(list, *agent)
	}
	return list
}

func (st *store) witness(id digest.ReceiptID) (w witness, err error) {
	raw, err := st.files.read(witnessFolder, id)
	if err != nil {
		return w, err
	}
	return w, json.Unmarshal(raw, &w)
}

func (st *store) removeWitness(id digest.ReceiptID) error {
	st.mu.Lock()
	delete(st.agents, id)
	delete(st.owners, id)
	st.mu.Unlock()
	return st.files.remove(witnessFolder, id)
}

// trim removes witnesses that are too many.
func (st *store) trim() (err error) {
	st.mu.Lock()
	old := st.evict()
	st.mu.Unlock()
	for _, id := range old {
		err = errors.Join(err, st.removeWitness(id))
	}
	return err
}

// evict forgets witnesses that are too many, the oldest of the user who has the most first,
// but none whose proof is still to be made, and returns them. The caller holds mu.
func (st *store) evict() (old []digest.ReceiptID) {
	of := map[uint32]int{}
	for _, id := range st.kept {
		of[st.owners[id]]++
	}
	for len(st.kept) > maxWitnesses {
		next := -1
		for i, id := range st.kept {
			if (next < 0 || of[st.owners[id]] > of[st.owners[st.kept[next]]]) && !st.needed(id) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		id := st.kept[next]
		of[st.owners[id]]--
		delete(st.jobs, id)
		old, st.kept = append(old, id), slices.Delete(st.kept, next, next+1)
	}
	return old
}

// needed says whether a proof of the witness is still to be made. The caller holds mu.
func (st *store) needed(id digest.ReceiptID) bool {
	job, ok := st.jobs[id]
	if !ok {
		return false
	}
	info, err := st.queue.Show(job)
	return err == nil && !info.Final()
}

// setJob remembers which job proves an answer.
func (st *store) setJob(id digest.ReceiptID, job jobs.ID) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.jobs[id] = job
}

// job is the job that proves an answer, or proved it.
func (st *store) job(id digest.ReceiptID) (jobs.ID, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	job, ok := st.jobs[id]
	return job, ok
}
