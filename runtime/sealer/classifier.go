package sealer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// SealClassifier writes opt.Out from the parts of a classifier (classifier.Parts); the caller
// wipes their plaintext. opt.In is not used. If it fails or ctx ends, opt.Out is unchanged and
// no other file is left.
func SealClassifier(ctx context.Context, opt Options, parts []classifier.Part) (Summary, error) {
	start := time.Now()
	if opt.Sign == nil {
		return Summary{}, errors.New("sealer: no publisher key to sign with")
	}
	var done chunkseal.Summary
	source := int64(0)
	err := create(opt.Out, func(out *os.File) error {
		sections := make([]chunkseal.Section, len(parts))
		for i, p := range parts {
			sections[i] = p.Section
			if int64(len(p.Data)) != p.Bytes() {
				return fmt.Errorf("sealer: section %s has %d bytes, want %d", p.Name, len(p.Data), p.Bytes())
			}
			source += p.Bytes()
		}
		manifest := chunkseal.Manifest{Name: opt.Name, Version: opt.Version, ParameterSets: opt.ParameterSets}
		w, err := chunkseal.NewWriter(out, opt.Key, manifest, sections)
		if err != nil {
			return fmt.Errorf("sealer: %w", err)
		}
		if err := writeParts(ctx, w, parts, source, opt.Progress); err != nil {
			return err
		}
		if done, err = w.Close(opt.Sign); err != nil {
			return fmt.Errorf("sealer: %w", err)
		}
		return nil
	})
	if err != nil {
		return Summary{}, err
	}
	return Summary{FileID: done.FileID, Root: done.Root, SourceBytes: source, SealedBytes: done.Bytes,
		Tensors: len(parts), Chunks: done.Chunks, Duration: time.Since(start)}, nil
}

func writeParts(ctx context.Context, w *chunkseal.Writer, parts []classifier.Part, total int64, progress func(done, total int64)) error {
	done := int64(0)
	for _, p := range parts {
		for data := p.Data; len(data) > 0; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(len(data), int(p.ChunkBytes))
			if err := w.WriteChunk(data[:n]); err != nil {
				return fmt.Errorf("sealer: %w", err)
			}
			data = data[n:]
			if done += int64(n); progress != nil {
				progress(done, total)
			}
		}
	}
	return nil
}
