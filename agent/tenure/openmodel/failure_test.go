package openmodel

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

func TestWhichErrorsLast(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"unsupported":   {servable.Refuse([]servable.Finding{{Code: servable.CodeTensor}}), true},
		"does not fit":  {&arena.DoesNotFit{}, true},
		"damaged":       {chunkseal.Refuse(chunkseal.ReasonDigest, ""), true},
		"missing":       {&fs.PathError{Err: fs.ErrNotExist}, true},
		"not readable":  {&fs.PathError{Err: fs.ErrPermission}, true},
		"disk failed":   {chunkseal.Refuse(chunkseal.ReasonUnreadable, ""), false},
		"wrong key":     {chunkseal.Refuse(chunkseal.ReasonKey, ""), false},
		"another model": {chunkseal.Refuse(chunkseal.ReasonModelID, ""), false},
		"not granted":   {refusal.New(ReasonNotGranted, "%w", chunkseal.Refuse(chunkseal.ReasonModelID, "")), false},
		"lease ended":   {refusal.New("lease-expired", "it has ended"), false},
		"another error": {errors.New("something"), false},
	} {
		if got := Lasting(fmt.Errorf("model: %w", tc.err)); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
