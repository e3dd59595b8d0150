package vtpm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Reasons of sealing.
const (
	// ReasonSealedElsewhere: another TPM sealed this, or this one before it was cleared.
	ReasonSealedElsewhere refusal.Reason = "sealed-by-another-tpm"
	// ReasonRegisters: the PCRs do not have the values under which it was sealed.
	ReasonRegisters refusal.Reason = "sealed-under-other-pcrs"
	// ReasonCount: it was opened as often as it may be, or something newer was sealed.
	ReasonCount refusal.Reason = "sealed-count-used-up"
	// ReasonCounter: the counter is not there, or not the one that counted.
	ReasonCounter refusal.Reason = "sealed-counter-absent"
	// ReasonUncovered: what the boot loader started is in PCRs that it is not sealed to.
	ReasonUncovered refusal.Reason = "sealed-pcrs-too-few"
)

// SealCounter is the NV index of the counter, in the owner's range, unless another is named.
const SealCounter = 0x0180ac01

// Limits of what is sealed.
const (
	// SecretBytes is the size of what is sealed: a key.
	SecretBytes = 32
	// MaxOpens is how often it may be opened at most.
	MaxOpens = 16

	maxBlobBytes = 1 << 10
	nonceBytes   = 32
	counterBytes = 8
)

// Sealed is a key that only this TPM gives back: while the PCRs have the values that they had, and as long
// as the counter has not passed Last. Nothing in it is secret.
type Sealed struct {
	// Index is the counter's.
	Index uint32
	// Last is the highest value of the counter at which it opens, Opens how many of them there are.
	Last  uint64
	Opens uint16
	// Parent is the name of the storage key, by which this TPM is known.
	Parent []byte
	// Private and Public are the sealed object.
	Private, Public []byte
	// Clock is the TPM's own clock when it was sealed.
	Clock time.Duration
}

// Opened is what came of opening.
type Opened struct {
	// Secret is the key; the caller wipes it.
	Secret []byte
	// Number says how often it has been opened, this time included.
	Number uint16
	// Elapsed is what the TPM's own clock says has passed since it was sealed. That clock stands
	// still while the TPM has no power, and may fall back by an hour when it loses it.
	Elapsed time.Duration
}

func (s Sealed) check() error {
	switch {
	case s.Index>>24 != rangeNV:
		return refusal.New(ReasonDevice, "%#x is no NV index", s.Index)
	case s.Opens < 1 || s.Opens > MaxOpens || s.Last < uint64(s.Opens):
		return refusal.New(ReasonDevice, "a key that opens %d times, up to the count %d", s.Opens, s.Last)
	case len(s.Private) == 0 || len(s.Private) > maxBlobBytes || len(s.Public) == 0 || len(s.Public) > maxBlobBytes || len(s.Parent) == 0 || len(s.Parent) > maxBlobBytes:
		return refusal.New(ReasonDevice, "a sealed object without parts, or one that is too large")
	}
	return nil
}

// Seal seals a key to the collector's PCRs, so that it opens so many times. All that was sealed with this counter
// before does not open any more, whoever has a copy: the counter is taken past it first. The key crosses the TPM's bus encrypted,
// in a session whose salt is encrypted to the storage key.
func (c *Collector) Seal(ctx context.Context, index uint32, opens uint16, secret []byte) (Sealed, error) {
	if len(secret) != SecretBytes || opens < 1 || opens > MaxOpens {
		return Sealed{}, refusal.New(ReasonDevice, "a key of %d bytes to open %d times, want %d and 1 to %d", len(secret), opens, SecretBytes, MaxOpens)
	}
	return during(ctx, c, func(_ context.Context, tpm transport.TPM) (s Sealed, err error) {
		if err := c.checkCovered(tpm); err != nil {
			return s, err
		}
		count, err := c.pass(tpm, index, 1) // once at least: another process sees that something was sealed
		if err != nil {
			return s, err
		}
		parent, err := storageKey(tpm)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, parent.flush(tpm)) }()
		s = Sealed{Index: index, Last: count + uint64(opens), Opens: opens, Parent: parent.handle.Name.Buffer}
		policy, err := c.sealPolicy(tpm, index, s.Last)
		if err != nil {
			return Sealed{}, err
		}
		created, err := tpm2.Create{
			ParentHandle: tpm2.AuthHandle{Handle: parent.handle.Handle, Name: parent.handle.Name, Auth: tpm2.PasswordAuth(nil)},
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret})}},
			InPublic: tpm2.New2B(tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
				ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true}}),
		}.Execute(tpm, parent.encrypted(tpm2.AESEncryption(128, tpm2.EncryptIn), unconditional))
		if err != nil {
			return Sealed{}, fmt.Errorf("seal: %w", err)
		}
		s.Private, s.Public = created.OutPrivate.Buffer, created.OutPublic.Bytes()
		if s.Clock, err = tpmClock(tpm); err != nil {
			return s, err
		}
		c.newest[index] = counted{count, s.Last}
		return s, nil
	})
}

// Open counts, and then has the TPM open what was sealed. It is counted whatever comes of it.
func (c *Collector) Open(ctx context.Context, s Sealed) (Opened, error) {
	if err := s.check(); err != nil {
		return Opened{}, err
	}
	return during(ctx, c, func(_ context.Context, tpm transport.TPM) (o Opened, err error) {
		parent, err := storageKey(tpm)
		if err != nil {
			return o, err
		}
		defer func() { err = errors.Join(err, parent.flush(tpm)) }()
		if !slices.Equal(parent.handle.Name.Buffer, s.Parent) {
			return o, refusal.New(ReasonSealedElsewhere, "this TPM's storage key is another than the one that sealed it")
		}
		count, err := increment(tpm, s.Index, 1)
		if err != nil {
			return o, err
		}
		first := s.Last - uint64(s.Opens) + 1
		if count < first || count > s.Last {
			return o, refusal.New(ReasonCount, "the counter is at %d, it opens from %d to %d", count, first, s.Last)
		}
		now, err := tpmClock(tpm)
		if err != nil {
			return o, err
		}
		o = Opened{Number: uint16(count - first + 1), Elapsed: max(now-s.Clock, 0)}
		o.Secret, err = c.unseal(tpm, parent, s)
		return o, err
	})
}

// Exhaust takes the counter past everything that was sealed with it: no copy opens any more.
func (c *Collector) Exhaust(ctx context.Context, index uint32) error {
	_, err := during(ctx, c, func(_ context.Context, tpm transport.TPM) (uint64, error) {
		if _, err := openNV(tpm, index); errors.Is(err, fs.ErrNotExist) {
			return 0, nil // nothing was ever counted
		}
		count, err := c.pass(tpm, index, 0)
		if err == nil {
			c.newest[index] = counted{count, count - 1} // nothing opens, and nothing needs to be counted again
		}
		return count, err
	})
	return err
}

// Registers of boot loaders.
const (
	pcrGRUB   = 8  // GRUB's commands, with the kernel's command line
	pcrLoaded = 9  // files that GRUB read; initial RAM disk and command line that the kernel was given
	pcrUKI    = 11 // what is in a unified kernel image, which PCR 4 covers as one program
)

// checkCovered refuses to seal where PCR 4 names a boot loader, and other registers than those that are sealed to
// name what it started: whoever edits the kernel's command line would have the keys.
func (c *Collector) checkCovered(tpm transport.TPM) error {
	values, err := c.readPCRs(tpm, []int{pcrGRUB, pcrLoaded, pcrUKI})
	if err != nil {
		return err
	}
	used := func(n int) bool { return slices.ContainsFunc(values[n], func(b byte) bool { return b != 0 }) }
	var want []int
	if used(pcrGRUB) {
		want = append(want, pcrGRUB)
	}
	if used(pcrLoaded) && (used(pcrGRUB) || !used(pcrUKI)) {
		want = append(want, pcrLoaded)
	}
	for _, n := range want {
		if !slices.Contains(c.opt.PCRs, n) {
			return refusal.New(ReasonUncovered, "a boot loader extended the PCRs %v, and PCR %d is not among those to seal to, %v: with another kernel or command line the keys would open; add it to local_restart.pcrs", want, n, c.opt.PCRs)
		}
	}
	return nil
}

// unseal loads the object and opens it under its policy. The answer is encrypted on the bus.
func (c *Collector) unseal(tpm transport.TPM, parent *storage, s Sealed) (secret []byte, err error) {
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: parent.handle.Handle, Name: parent.handle.Name, Auth: tpm2.PasswordAuth(nil)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: s.Private}, InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](s.Public),
	}.Execute(tpm)
	if err != nil {
		return nil, refusal.New(ReasonSealedElsewhere, "load what was sealed: %w", err)
	}
	defer func() {
		if _, flushed := (tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}).Execute(tpm); flushed != nil {
			err = errors.Join(err, fmt.Errorf("flush what was sealed: %w", flushed))
		}
	}()
	policy := func(tpm transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		return c.satisfy(tpm, session, s.Index, s.Last)
	}
	answer, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name,
		Auth: parent.encrypted(tpm2.AESEncryption(128, tpm2.EncryptOut), policy)}}.Execute(tpm)
	switch {
	case errors.Is(err, tpm2.TPMRCPolicy):
		return nil, refusal.New(ReasonCount, "the TPM refuses: %w", err)
	case errors.Is(err, tpm2.TPMRCPolicyFail), errors.Is(err, tpm2.TPMRCPCRChanged):
		return nil, refusal.New(ReasonRegisters, "the PCRs %v are not what they were when it was sealed: %w", c.opt.PCRs, err)
	case err != nil:
		return nil, fmt.Errorf("unseal: %w", err)
	case len(answer.OutData.Buffer) != SecretBytes:
		clear(answer.OutData.Buffer)
		return nil, refusal.New(ReasonDevice, "the TPM returned %d bytes, want %d", len(answer.OutData.Buffer), SecretBytes)
	}
	return answer.OutData.Buffer, nil
}

// satisfy makes a policy session fit: the PCRs as they are, and the counter not past the last.
func (c *Collector) satisfy(tpm transport.TPM, session tpm2.TPMISHPolicy, index uint32, last uint64) error {
	if _, err := (tpm2.PolicyPCR{PolicySession: session, Pcrs: c.selection(c.opt.PCRs)}).Execute(tpm); err != nil {
		return fmt.Errorf("policy over PCRs: %w", err)
	}
	n, err := openNV(tpm, index)
	if err != nil {
		return err
	}
	_, err = c.atMost(n, session, last).Execute(tpm)
	return err
}

func (c *Collector) atMost(n nvIndex, session tpm2.TPMISHPolicy, last uint64) tpm2.PolicyNV {
	return tpm2.PolicyNV{AuthHandle: n.by(n.public.Attributes.OwnerRead), NVIndex: n.handle, PolicySession: session,
		OperandB: tpm2.TPM2BOperand{Buffer: binary.BigEndian.AppendUint64(nil, last)}, Operation: tpm2.TPMEOUnsignedLE}
}

// sealPolicy is the policy's digest over the PCRs as they are.
func (c *Collector) sealPolicy(tpm transport.TPM, index uint32, last uint64) ([]byte, error) {
	values, err := c.readPCRs(tpm, c.opt.PCRs)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	for _, n := range c.opt.PCRs {
		h.Write(values[n]) // hash.Hash never fails
	}
	n, err := openNV(tpm, index)
	if err != nil {
		return nil, err
	}
	// TPM 2.0 Library, part 3, 23.7 and 23.9: each assertion extends the digest, which begins with zeros.
	digest := extended(make([]byte, sha256.Size), tpm2.TPMCCPolicyPCR, tpm2.Marshal(c.selection(c.opt.PCRs)), h.Sum(nil))
	limit := c.atMost(n, 0, last)
	arguments := sha256.Sum256(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(limit.OperandB.Buffer, limit.Offset), uint16(limit.Operation)))
	return extended(digest, tpm2.TPMCCPolicyNV, arguments[:], n.handle.Name.Buffer), nil
}

// extended is a policy's digest after one more assertion.
func extended(digest []byte, command tpm2.TPMCC, parts ...[]byte) []byte {
	h := sha256.New()
	h.Write(digest)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(command)))
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// storage is the key under which this TPM seals: made anew each time from the owner's seed, and the same
// each time.
type storage struct {
	handle tpm2.NamedHandle
	public tpm2.TPMTPublic
}

func storageKey(tpm transport.TPM) (*storage, error) {
	response, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(tpm)
	if err != nil {
		return nil, fmt.Errorf("make the storage key: %w", err)
	}
	public, err := response.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("read the storage key: %w", err)
	}
	return &storage{tpm2.NamedHandle{Handle: response.ObjectHandle, Name: response.Name}, *public}, nil
}

// encrypted is a session whose salt is encrypted to the storage key, and in which the first parameter of
// the command or of its answer is encrypted. It satisfies a policy, or none.
func (s *storage) encrypted(way tpm2.AuthOption, policy tpm2.PolicyCallback) tpm2.Session {
	return tpm2.Policy(tpm2.TPMAlgSHA256, nonceBytes, policy, tpm2.Salted(s.handle.Handle, s.public), way)
}

// unconditional is the policy of a session that authorizes nothing, and only encrypts.
func unconditional(transport.TPM, tpm2.TPMISHPolicy, tpm2.TPM2BNonce) error { return nil }

func (s *storage) flush(tpm transport.TPM) error {
	if _, err := (tpm2.FlushContext{FlushHandle: s.handle.Handle}).Execute(tpm); err != nil {
		return fmt.Errorf("flush the storage key: %w", err)
	}
	return nil
}

// counted is the value of a counter when something was sealed, and the last one at which that opens.
type counted struct{ count, last uint64 }

// pass takes the counter past all that could be sealed with it, by so many steps at least, and returns its value.
// It is defined where it does not exist: the TPM then begins above every counter that it ever had. A TPM's memory
// wears out, so it counts no further than what this process sealed last, as long as the counter has not moved
// since: whoever else seals or opens moves it.
func (c *Collector) pass(tpm transport.TPM, index uint32, least int) (count uint64, err error) {
	newest, known := c.newest[index]
	delete(c.newest, index) // until the caller knows more
	if _, err := openNV(tpm, index); errors.Is(err, fs.ErrNotExist) {
		if err := defineCounter(tpm, index); err != nil {
			return 0, err
		}
		known = false
	} else if err != nil {
		return 0, err
	}
	times := MaxOpens + 1
	if known {
		if count, err = readCount(tpm, index); err != nil {
			return 0, err
		}
		if count == newest.count {
			times = max(int(newest.last+1-count), least)
		}
	}
	return increment(tpm, index, times)
}

func defineCounter(tpm transport.TPM, index uint32) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, DataSize: counterBytes,
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NoDA: true, NT: tpm2.TPMNTCounter},
		}),
	}.Execute(tpm)
	if err != nil {
		return refusal.New(ReasonCounter, "define the counter %#x: %w", index, err)
	}
	return nil
}

// increment counts so many times, and returns the new value. A TPM increments counters alone, which nothing else writes.
func increment(tpm transport.TPM, index uint32, times int) (uint64, error) {
	for range times {
		n, err := openNV(tpm, index) // each time: the first count of an index changes its name
		if err != nil {
			return 0, refusal.New(ReasonCounter, "%w", err)
		}
		if _, err := (tpm2.NVIncrement{AuthHandle: n.by(n.public.Attributes.OwnerWrite), NVIndex: n.handle}).Execute(tpm); err != nil {
			return 0, refusal.New(ReasonCounter, "count: %w", err)
		}
	}
	return readCount(tpm, index)
}

func readCount(tpm transport.TPM, index uint32) (uint64, error) {
	raw, err := readNV(tpm, index, counterBytes)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(raw), nil
}

// readClock is TPM2_ReadClock, which has no parameters. What it answers begins with the time since the last
// start and the clock, in milliseconds (TPM 2.0 Library, part 3, 29.1).
func readClock() []byte { return []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x81} }

// tpmClock is the time for which the TPM has had power.
func tpmClock(tpm transport.TPM) (time.Duration, error) {
	const head, atClock = 10, 18
	answer, err := tpm.Send(readClock())
	if err != nil {
		return 0, fmt.Errorf("read the TPM's clock: %w", err)
	}
	if len(answer) < atClock+8 || binary.BigEndian.Uint32(answer[6:head]) != 0 {
		return 0, refusal.New(ReasonDevice, "the TPM does not tell its clock: %x", answer[:min(len(answer), head)])
	}
	ms := binary.BigEndian.Uint64(answer[atClock:])
	return time.Duration(min(ms, 1<<42)) * time.Millisecond, nil
}
