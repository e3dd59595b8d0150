package proofwork

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"

	"github.com/anchorhold/anchorhold/agent/prooftask"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// maxEnvelope bounds an envelope behind its key.
const maxEnvelope = 1 << 20

// verify verifies one proof of PLONK.
func verify(ctx context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
	var task prooftask.Verify
	d := json.NewDecoder(bytes.NewReader(spec))
	d.DisallowUnknownFields()
	if err := d.Decode(&task); err != nil {
		return nil, taskInvalid("%v", err)
	}
	if len(in) != 1 || len(out) != 0 || task.Key < 1 || task.Key > plonkverify.MaxKeyBytes {
		return nil, taskInvalid("one input is wanted, a key of up to %d bytes first", plonkverify.MaxKeyBytes)
	}
	raw, err := io.ReadAll(io.LimitReader(in[0], int64(task.Key)+maxEnvelope))
	if err != nil {
		return nil, err
	}
	if len(raw) < task.Key {
		return nil, taskInvalid("the key is cut short")
	}
	progress("verify", 0, 1)
	var result prooftask.Verified
	if err := verifyEnvelope(ctx, raw[:task.Key], raw[task.Key:]); err != nil {
		result.Refused = err.Error()
	}
	return json.Marshal(result)
}

func verifyEnvelope(ctx context.Context, rawKey, rawEnvelope []byte) error {
	key, err := plonkverify.ParseKey(rawKey)
	if err != nil {
		return err
	}
	e, err := statement.ParseEnvelope(rawEnvelope)
	if err != nil {
		return err
	}
	return key.VerifyEnvelope(ctx, e)
}
