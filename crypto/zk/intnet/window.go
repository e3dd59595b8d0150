package intnet

import "fmt"

// Size is a number of rows and one of columns.
type Size struct{ H, W int }

// Edges are numbers of rows and columns around an image.
type Edges struct{ Top, Left, Bottom, Right int }

// Window is how a layer moves over an image.
type Window struct {
	Kernel, Stride Size
	Dilation       Size // the distance between neighbours in the kernel, 1 if they touch
	Pad            Edges
}

// Square is a window with equal sides.
func Square(kernel, stride, pad int) Window {
	return Window{Kernel: Size{kernel, kernel}, Stride: Size{stride, stride}, Dilation: Size{1, 1}, Pad: Edges{pad, pad, pad, pad}}
}

// isSquare says whether Square makes the window.
func (w Window) isSquare() bool { return w == Square(w.Kernel.H, w.Stride.H, w.Pad.Top) }

// Padded says whether there is any padding.
func (w Window) Padded() bool { return w.Pad != Edges{} }

// Area is the number of values of one channel that a window covers.
func (w Window) Area() int { return w.Kernel.H * w.Kernel.W }

// span is how far the kernel reaches.
func (w Window) span() Size {
	return Size{(w.Kernel.H-1)*w.Dilation.H + 1, (w.Kernel.W-1)*w.Dilation.W + 1}
}

// Over is the number of positions over an image. It needs a window that Fits.
func (w Window) Over(h, width int) Size {
	span := w.span()
	return Size{(h+w.Pad.Top+w.Pad.Bottom-span.H)/w.Stride.H + 1, (width+w.Pad.Left+w.Pad.Right-span.W)/w.Stride.W + 1}
}

// Fits reports a window that is out of range or larger than the padded image.
func (w Window) Fits(h, width int) error {
	for _, v := range []int{w.Kernel.H, w.Kernel.W, w.Stride.H, w.Stride.W, w.Dilation.H, w.Dilation.W} {
		if v < 1 || v > maxSide {
			return fmt.Errorf("kernel %v, stride %v and dilation %v must be from 1 to %d", w.Kernel, w.Stride, w.Dilation, maxSide)
		}
	}
	if w.Kernel.H == 1 && w.Dilation.H != 1 || w.Kernel.W == 1 && w.Dilation.W != 1 {
		return fmt.Errorf("kernel %v is dilated by %v, where it has one value", w.Kernel, w.Dilation)
	}
	span := w.span()
	for _, v := range []struct{ pad, span int }{{w.Pad.Top, span.H}, {w.Pad.Bottom, span.H}, {w.Pad.Left, span.W}, {w.Pad.Right, span.W}} {
		if v.pad < 0 || v.pad >= v.span || v.pad > maxSide {
			return fmt.Errorf("padding %+v is out of range for a kernel that reaches %v", w.Pad, span)
		}
	}
	if h+w.Pad.Top+w.Pad.Bottom < span.H || width+w.Pad.Left+w.Pad.Right < span.W {
		return fmt.Errorf("the kernel is larger than %dx%d", h, width)
	}
	return nil
}

// line is a window along one dimension.
type line struct{ kernel, stride, dilation, pad int }

func (w Window) lines() (rows, columns line) {
	return line{w.Kernel.H, w.Stride.H, w.Dilation.H, w.Pad.Top}, line{w.Kernel.W, w.Stride.W, w.Dilation.W, w.Pad.Left}
}

// at is the place in the image, or outside of it, of value k at a position.
func (l line) at(position, k int) int { return position*l.stride + k*l.dilation - l.pad }

// counts is how many values of each position are from low to high, without high. It takes the same
// time for any kernel: an encoding of a few kilobytes may ask for thousands of large ones.
func (l line) counts(positions, low, high int) []int {
	list := make([]int, positions)
	for p := range list {
		list[p] = l.before(p, high) - l.before(p, low)
	}
	return list
}

// before is how many values of the kernel are at places below limit.
func (l line) before(position, limit int) int {
	reach := limit - l.at(position, 0)
	if reach <= 0 {
		return 0
	}
	return min(l.kernel, (reach+l.dilation-1)/l.dilation)
}
