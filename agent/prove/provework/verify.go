package provework

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// maxEnvelope bounds an envelope behind its key.
const maxEnvelope = 1 << 20

// Every key that a verifier takes fits the task.
const _ = uint(provetask.MaxVerifyingKey - max(groth16verify.MaxKeyBytes, plonkverify.MaxKeyBytes))

// verify verifies one proof.
func verify(ctx context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
	var task provetask.Verify
	d := json.NewDecoder(bytes.NewReader(spec))
	d.DisallowUnknownFields()
	if err := d.Decode(&task); err != nil {
		return nil, taskInvalid("%v", err)
	}
	if task.Millis < 1 || task.Millis > provetask.MaxVerifyMillis {
		return nil, taskInvalid("got a verification time of %d ms, want 1 to %d ms", task.Millis, provetask.MaxVerifyMillis)
	}
	if len(in) != 1 || len(out) != 0 || task.Key < 1 || task.Key > provetask.MaxVerifyingKey {
		return nil, taskInvalid("expected one input that starts with a key of at most %d bytes", provetask.MaxVerifyingKey)
	}
	raw, err := io.ReadAll(io.LimitReader(in[0], int64(task.Key)+maxEnvelope))
	if err != nil {
		return nil, err
	}
	if len(raw) < task.Key {
		return nil, taskInvalid("the key is truncated")
	}
	progress("verify", 0, 1)
	var result provetask.Verified
	switch err := verifyEnvelope(ctx, raw[:task.Key], raw[task.Key:], time.Duration(task.Millis)*time.Millisecond); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err == nil:
		result.Verified = true
	case errors.Is(err, context.DeadlineExceeded):
		result.TimedOut = true
	default:
		result.Refused = err.Error()
	}
	return json.Marshal(result)
}

func verifyEnvelope(ctx context.Context, rawKey, rawEnvelope []byte, limit time.Duration) error {
	e, err := statement.ParseEnvelope(rawEnvelope)
	if err != nil {
		return err
	}
	verifiers := keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey), statement.PLONK: keyset.By(plonkverify.ParseKey)}
	key, err := verifiers.Parse(e.Statement.System, rawKey)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return key.VerifyEnvelope(ctx, e)
}
