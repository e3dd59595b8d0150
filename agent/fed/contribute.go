package fed

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/normproof"
	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Contributed is the result of a job that contributes.
type Contributed struct {
	Round        digest.RoundID     `json:"round"`
	Contribution digest.Digest      `json:"contribution"` // digest of the signed contribution
	Bytes        int64              `json:"bytes"`        // of ciphertext
	Scaled       bool               `json:"scaled"`
	Clamped      uint64             `json:"clamped"`
	Answers      []digest.ReceiptID `json:"answers,omitempty"` // proven, and named in the contribution
}

// contribute does one job: encrypt, sign, record, see that the answers are proven that come
// with it, upload. It may begin anywhere, for an earlier try may have ended anywhere, or have
// been postponed for a proof.
func (s *Service) contribute(ctx context.Context, l *jobs.Lease) (json.RawMessage, error) {
	var spec contributeSpec
	if err := json.Unmarshal(l.Info.Spec, &spec); err != nil {
		return nil, refusal.New(fedtask.ReasonVector, "%v", err)
	}
	h, err := s.rounds.Open(ctx, spec.Round)
	if err != nil {
		return nil, spec.step(ReasonSession, err)
	}
	round := h.ID.String()
	// One job for each round: two vectors under one agent key would be two
	// contributions, or two encryptions to subtract from each other.
	if err := s.only(round, spec, l.Info.ID); err != nil {
		return nil, spec.step(ReasonSession, err)
	}
	result, manifest, err := s.prepared(h.ID)
	if err != nil {
		return nil, spec.step(ReasonGradient, err)
	}
	if manifest == nil {
		if result, manifest, err = s.encrypt(ctx, l, h, spec); err != nil {
			return nil, spec.step(ReasonGradient, err)
		}
	}
	if err := s.accompany(ctx, l, h, spec.With); err != nil {
		return nil, spec.step(ReasonProof, err)
	}
	if err = s.upload(ctx, l, h, manifest); outsideLease(err) {
		if result, manifest, err = s.restate(h, result, manifest, err); err == nil {
			err = s.upload(ctx, l, h, manifest)
		}
	}
	if err != nil {
		return nil, spec.step(ReasonSend, err)
	}
	// The upload is complete everywhere: neither vector nor ciphertext is needed.
	if err := errors.Join(s.store.Drop(spec.Vector), os.Remove(s.store.UploadPath(h.ID, store.Blocks))); err != nil {
		s.cfg.Logger.Warn("clean up after a contribution", "round", round, "err", err)
	}
	return json.Marshal(result)
}

// only makes a job the round's one, or refuses it. A vector that a restart lost takes
// no place: its run's job is one, and the next run has another, unless something was
// signed.
func (s *Service) only(round string, spec contributeSpec, job jobs.ID) error {
	name := "fed/" + round + "/job"
	if spec.Run != "" {
		name += "/" + spec.Run
		first, err := s.cfg.Queue.Consumed(name)
		if err != nil {
			return err
		}
		signed, err := s.cfg.Queue.Consumed("fed/" + round + "/upload")
		if err != nil {
			return err
		}
		if first == [32]byte{} && signed != [32]byte{} {
			return refusal.New(ReasonContributed, "an earlier run of this agent contributed to round %s", round)
		}
	}
	err := s.cfg.Queue.Once(name, job)
	if reason, _ := refusal.ReasonOf(err); reason == jobs.ReasonConsumed {
		return refusal.New(ReasonContributed, "this agent already has another contribution in round %s", round)
	}
	return err
}

// prepared returns what an earlier try signed and recorded, or nothing.
func (s *Service) prepared(id digest.RoundID) (result Contributed, manifest []byte, err error) {
	round := id.String()
	consumed, err := s.cfg.Queue.Consumed("fed/" + round + "/upload")
	if err != nil || consumed == [32]byte{} {
		return result, nil, err
	}
	again, err := s.restated(round)
	if err != nil {
		return result, nil, err
	}
	part := store.Manifest
	if again != (digest.Digest{}) {
		part, consumed = store.Restated, again
	}
	manifest, err = os.ReadFile(s.store.UploadPath(id, part))
	if err != nil {
		return result, nil, err
	}
	m, err := federation.ParseManifest(manifest)
	if err != nil {
		return result, nil, err
	}
	if digest.Of(m.Signed) != digest.Digest(consumed) {
		return result, nil, refusal.New(ReasonContributed, "the stored upload is not the one that was recorded")
	}
	raw, err := os.ReadFile(s.store.UploadPath(id, store.Result))
	if err != nil {
		return result, nil, err
	}
	err = json.Unmarshal(raw, &result)
	result.Contribution = digest.Of(m.Signed)
	return result, manifest, err
}

// encrypt has a worker encrypt the vector, signs the contribution, makes all of it
// durable, and then records that this ciphertext is the round's: nothing of
// another may leave from then on.
func (s *Service) encrypt(ctx context.Context, l *jobs.Lease, h rounds.Round, spec contributeSpec) (result Contributed, manifest []byte, err error) {
	if err := s.store.Above(spec.Upload); err != nil {
		return result, nil, err
	}
	blocks, err := s.store.NewUpload()
	if err != nil {
		return result, nil, err
	}
	var proof, raw []byte
	if result, manifest, proof, err = s.produce(ctx, l, h, spec, blocks.File); err == nil {
		raw, err = json.Marshal(result)
	}
	if err != nil {
		return result, nil, errors.Join(err, blocks.Discard())
	}
	if err := blocks.Keep(s.store.UploadPath(h.ID, store.Blocks)); err != nil {
		return result, nil, err
	}
	if h.NormProof {
		err = s.store.WriteUpload(h.ID, store.Proof, proof)
	}
	if err := errors.Join(err, s.store.WriteUpload(h.ID, store.Manifest, manifest), s.store.WriteUpload(h.ID, store.Result, raw)); err != nil {
		return result, nil, err
	}
	return result, manifest, s.cfg.Queue.Once("fed/"+h.ID.String()+"/upload", result.Contribution)
}

// produce has a worker write the ciphertext, and signs what it wrote.
func (s *Service) produce(ctx context.Context, l *jobs.Lease, h rounds.Round, spec contributeSpec, blocks *os.File) (result Contributed, manifest, proof []byte, err error) {
	hashes, err := s.store.NewUpload()
	if err != nil {
		return result, nil, nil, err
	}
	defer func() { err = errors.Join(err, hashes.Discard()) }()
	done, coordinates, err := s.runContribute(ctx, l, h, spec, blocks, hashes.File)
	defer clear(coordinates)
	if err != nil {
		return result, nil, nil, err
	}
	info, err := blocks.Stat()
	if err != nil {
		return result, nil, nil, err
	}
	m, proof, err := s.sign(ctx, l, h, spec, done, hashes.File, coordinates)
	if err != nil {
		return result, nil, nil, err
	}
	result = Contributed{Round: h.ID, Contribution: digest.Of(m.Signed), Bytes: info.Size(), Scaled: done.Scaled, Clamped: done.Clamped, Answers: spec.With}
	manifest, err = m.Marshal()
	return result, manifest, proof, err
}

// runContribute gives the worker its task.
func (s *Service) runContribute(ctx context.Context, l *jobs.Lease, h rounds.Round, spec contributeSpec, blocks, hashes *os.File) (done fedtask.Contributed, coordinates []byte, err error) {
	plain, err := s.store.Open(h.Round, spec.Vector, spec.Run)
	if err != nil {
		return done, nil, err
	}
	defer plain.Close() // read only
	values, err := worker.NewFeed(func(w io.Writer) error { _, err := io.Copy(w, plain); return err })
	if err != nil {
		return done, nil, err
	}
	defer func() { err = errors.Join(values.End(), err) }()
	round, err := h.Sealed()
	if err != nil {
		return done, nil, err
	}
	defer round.Close() // memory
	task, err := json.Marshal(fedtask.Contribute{Weight: spec.Weight, Format: spec.Format, Norm: spec.Norm})
	if err != nil {
		return done, nil, err
	}
	out := []*os.File{blocks, hashes}
	if h.NormProof {
		drain, err := worker.NewDrain(int64(2 * h.Length)) // 16 bits each; what is cut short is no proof's
		if err != nil {
			return done, nil, err
		}
		defer func() {
			if err != nil {
				drain.Stop() // a worker that did not heed may still hold it
			}
			coordinates = drain.End()
		}()
		out = append(out, drain.Writer)
	}
	limits := s.cfg.Limits
	limits.Memory = max(limits.Memory, l.Info.Memory) // a retry may have raised it
	if limits.Output, err = uploadBytes(h.Round); err != nil {
		return done, nil, err
	}
	raw, err := s.cfg.Pool.Run(ctx, worker.Task{Class: fedtask.ClassContribute, Spec: task, In: []*os.File{round, values.Reader}, Out: out, Limits: limits}, s.progress(l))
	if err != nil {
		return done, nil, err
	}
	return done, nil, json.Unmarshal(raw, &done)
}

// uploadBytes is how long the round's ciphertexts are, the longest thing that a worker
// writes for a contribution.
func uploadBytes(r federation.Round) (int64, error) {
	set, _, err := r.Parameters()
	if err != nil {
		return 0, err
	}
	return int64(federation.BlockCount(r.Length, set.ValuesPerBlock())) * int64(set.BlockBytes()), nil
}

// progress hands a worker's word on to the queue. A lease that was lost shows when
// the job ends.
func (s *Service) progress(l *jobs.Lease) func(worker.Progress) {
	return func(p worker.Progress) {
		if err := l.Heartbeat(jobs.Progress(p)); err != nil {
			s.cfg.Logger.Debug("heartbeat", "job", l.Info.ID.String(), "err", err)
		}
	}
}

// sign checks what the worker wrote, has its norm proven where the round wants that,
// and signs the contribution.
func (s *Service) sign(ctx context.Context, l *jobs.Lease, h rounds.Round, spec contributeSpec, done fedtask.Contributed, hashes *os.File, coordinates []byte) (m federation.Manifest, proof []byte, err error) {
	signer, err := s.cfg.Sign()
	if err != nil {
		return m, nil, err
	}
	raw, err := io.ReadAll(io.NewSectionReader(hashes, 0, 32*federation.MaxManifestBlocks+1))
	if err != nil {
		return m, nil, err
	}
	if len(raw)%32 != 0 || uint64(len(raw)/32) != done.Blocks {
		return m, nil, errors.New("the worker's hash list does not match its number of blocks")
	}
	m.Hashes = make([]digest.Digest, len(raw)/32)
	for i := range m.Hashes {
		m.Hashes[i] = digest.Digest(raw[32*i:])
	}
	c := federation.Contribution{Round: h.ID, RoundDigest: h.Digest, Agent: signer.Key.Public().ID(), Weight: spec.Weight, Blocks: done.Blocks,
		Upload: federation.UploadDigest(h.ID, m.Hashes), Time: signer.Now, Answers: spec.With}
	if c.Upload != done.Upload {
		return m, nil, errors.New("the worker's digest does not match its hash list")
	}
	if h.NormProof {
		if proof, err = s.cfg.Norm.Prove(ctx, h.Round, &c, coordinates, s.progress(l)); err != nil {
			return m, nil, err
		}
		// The lease may have been renewed meanwhile, and with another key the proof is
		// of another participant: the next try makes one for it.
		if signer, err = s.cfg.Sign(); err != nil {
			return m, nil, err
		}
		if digest.Digest(signer.Key.Public().ID()) != c.Agent {
			return m, nil, errors.New("the agent's key has changed since the proof was begun")
		}
		c.Time = signer.Now
	}
	if err := c.Follows(h.Round, h.Digest); err != nil {
		return m, nil, err
	}
	m.Signed, err = federation.SignContribution(signer.Key, signer.Chain, c)
	return m, proof, err
}

// upload sends the blocks to every aggregator; each takes its part.
func (s *Service) upload(ctx context.Context, l *jobs.Lease, h rounds.Round, manifest []byte) (err error) {
	set, _, err := h.Parameters()
	if err != nil {
		return err
	}
	f, err := os.Open(s.store.UploadPath(h.ID, store.Blocks))
	if err != nil {
		return err
	}
	defer f.Close() // read only
	var proof []byte
	if h.NormProof {
		if proof, err = os.ReadFile(s.store.UploadPath(h.ID, store.Proof)); errors.Is(err, os.ErrNotExist) {
			return refusal.New(normproof.ReasonNotProven, "the proof that the recorded contribution names is gone and cannot be made again")
		} else if err != nil {
			return err
		}
	}
	for _, shard := range s.cfg.Shards {
		if _, err := shard.Send(ctx, h.ID, manifest, proof, f, set.BlockBytes(), func(done, total uint64) {
			s.progress(l)(worker.Progress{Phase: "upload", Done: done, Total: total})
		}); err != nil {
			return err
		}
	}
	return nil
}
